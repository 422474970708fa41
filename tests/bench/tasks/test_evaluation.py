"""Metric functions against hand-computed cases and trec_eval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tasks import evaluation
from bench.vectors.statistics import flops_per_pair

# Four queries over a gallery of 8, all 8 retrieved: found first; second and fifth; seventh; one of two never.
RANKS = [[1], [2, 5], [7], [3]]
RELEVANT = [1, 2, 1, 2]


def test_hand_made_case():
    values = evaluation.evaluate(RANKS, RELEVANT, depth=10)
    assert values == {
        "recall@1": 0.25,
        "recall@5": 0.75,
        "recall@10": 1.0,
        "trec_recall@1": 0.25,
        "trec_recall@5": (1 + 1 + 0 + 0.5) / 4,
        "trec_recall@10": (1 + 1 + 1 + 0.5) / 4,
        "median_rank": 2.5,
    }


def test_success_is_not_recall_with_five_captions():
    """All five captions of an image on top: R@1 is 1, TREC recall@1 is 0.2."""
    values = evaluation.evaluate([[1, 2, 3, 4, 5]], [5], depth=10)
    assert (values["recall@1"], values["trec_recall@1"], values["trec_recall@5"]) == (1.0, 0.2, 1.0)


def test_an_item_that_was_not_retrieved_counts_as_one_beyond_the_depth():
    assert evaluation.median_rank([[1], [], []], [1, 1, 1], depth=100) == 101
    assert evaluation.success([[], [1]], 1).tolist() == [0.0, 1.0]


def test_a_depth_below_k_gives_no_recall_at_k():
    assert "recall@5" not in evaluation.evaluate([[1]], [1], depth=3)
    with pytest.raises(ValueError, match="recall@5"):
        evaluation.success_at(5, [[1]], [1], 3)


def test_flops_are_expected_multiply_adds():
    # lexicon 0 in every query and half of the documents, lexicon 1 in half of the queries and every document
    assert flops_per_pair(np.array([1.0, 0.5, 0.0]), np.array([0.5, 1.0, 1.0])) == 1.0


def test_overlap_ignores_padding_and_order():
    exact = np.array([[3, 1, 2], [5, -1, -1], [-1, -1, -1]])
    found = np.array([[1, 3, 9], [7, -1, -1], [4, -1, -1]])
    assert evaluation.overlap(found, exact, 3) == (2 / 3 + 0) / 2
    assert evaluation.overlap(exact[2:], exact[2:], 3) == 1.0


def test_percentile_is_a_measured_value():
    assert evaluation.percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.0
    assert evaluation.percentile(np.arange(1.0, 101.0), 99) == 99.0


@st.composite
def runs(draw):
    """Rankings of a gallery with qrels: [(ids in order of rank, set of relevant ids), ...]."""
    gallery = draw(st.integers(1, 30))
    query = st.tuples(
        st.permutations(range(gallery)),
        st.sets(st.integers(0, gallery - 1), min_size=1, max_size=6),
        st.integers(1, gallery),
    )
    return [(order[:depth], relevant) for order, relevant, depth in draw(st.lists(query, min_size=1, max_size=5))]


@given(runs())
def test_agrees_with_trec_eval(queries):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels = {f"q{q}": {f"d{d}": 1 for d in relevant} for q, (_, relevant) in enumerate(queries)}
    scored = {
        f"q{q}": {f"d{d}": float(-place) for place, d in enumerate(order)} for q, (order, _) in enumerate(queries)
    }
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"recall", "success", "recip_rank"}).evaluate(scored)
    ranks = [[place for place, d in enumerate(order, start=1) if d in relevant] for order, relevant in queries]
    relevant = [len(of_query) for _, of_query in queries]
    for k in (1, 5, 10):
        assert evaluation.success(ranks, k).tolist() == [theirs[f"q{q}"][f"success_{k}"] for q in range(len(queries))]
    for k in (5, 10):
        assert evaluation.trec_recall(ranks, relevant, k) == pytest.approx(
            [theirs[f"q{q}"][f"recall_{k}"] for q in range(len(queries))]
        )
    reciprocal = 1 / evaluation.first_rank(ranks, np.inf)
    assert reciprocal == pytest.approx([theirs[f"q{q}"]["recip_rank"] for q in range(len(queries))])


@given(st.lists(st.tuples(st.permutations(range(8)), st.sets(st.integers(0, 11), min_size=1)), min_size=1, max_size=4))
def test_r_precision_and_map_at_r_agree_with_trec_eval(cases):
    """mAP@R is trec_eval's AP of the top R. Items from 8 on are relevant but not retrieved."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    ranks = [[rank for rank, item in enumerate(order, start=1) if item in items] for order, items in cases]
    relevant = [len(items) for _, items in cases]
    qrels = {f"{q}": {f"{item}": 1 for item in items} for q, (_, items) in enumerate(cases)}
    run = {
        f"{q}": {f"{item}": float(-rank) for rank, item in enumerate(order[: len(items)])}
        for q, (order, items) in enumerate(cases)
    }
    values = pytrec_eval.RelevanceEvaluator(qrels, {"Rprec", "map"}).evaluate(run).values()
    assert evaluation.r_precision(ranks, relevant) == pytest.approx(np.mean([value["Rprec"] for value in values]))
    assert evaluation.map_at_r(ranks, relevant) == pytest.approx(np.mean([value["map"] for value in values]))


def test_r_precision_and_map_at_r_by_hand():
    # 3 relevant items at ranks 1, 3, 4: the top 3 has two, at precisions 1 and 2/3; the second query has none
    assert evaluation.r_precision([[1, 3, 4], [3]], [3, 2]) == pytest.approx((2 / 3 + 0) / 2)
    assert evaluation.map_at_r([[1, 3, 4], [3]], [3, 2]) == pytest.approx(((1 + 2 / 3) / 3 + 0) / 2)


def test_mean_per_class_by_hand():
    # class 0: one of two right; class 1: right; class 2: none; class 3 has no item
    assert evaluation.mean_per_class([[1], [2], [1], [7]], [0, 0, 1, 2]) == pytest.approx((1 / 2 + 1 + 0) / 3)
