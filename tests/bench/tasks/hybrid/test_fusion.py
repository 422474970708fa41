"""Fusion of two result lists, by hand and against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tasks.hybrid import fusion
from bench.tasks.hybrid.fusion import Union

NONE = -1
IDS = np.array([[4, 2, 7]]), np.array([[2, 9, NONE]])
SCORES = np.array([[0.9, 0.5, 0.1]]), np.array([[30.0, 10.0, -np.inf]])
UNION = Union.of(IDS, SCORES)


def test_the_union_has_every_item_once_with_both_ranks_and_scores():
    assert UNION.ids.tolist() == [[2, 4, 7, 9]]
    assert UNION.ranks.tolist() == [[[2, 1, 3, np.inf]], [[1, np.inf, np.inf, 2]]]
    assert UNION.scores.tolist() == [[[0.5, 0.9, 0.1, -np.inf]], [[30, -np.inf, -np.inf, 10]]]


def test_reciprocal_rank_fusion_by_hand():
    assert np.allclose(fusion.reciprocal_rank(UNION), [[1 / 62 + 1 / 61, 1 / 61, 1 / 63, 1 / 62]])
    assert UNION.best(fusion.reciprocal_rank(UNION), 3).tolist() == [[2, 4, 9]]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(1.0, [0.5, 1, 0, 0]), (0.0, [1, 0, 0, 0]), (0.5, [0.75, 0.5, 0, 0])],
)
def test_convex_combination_by_hand(weight, expected):
    """Scores of the first search range from 0.1 to 0.9, of the second from 10 to 30."""
    assert np.allclose(fusion.convex(UNION, weight), [expected])


def test_distribution_based_fusion_by_hand():
    """First: mean 0.5, deviation sqrt(0.32 / 3); second: mean 20, deviation 10."""
    deviation = np.sqrt(0.32 / 3)
    first = [0.5, 0.5 + 0.4 / (6 * deviation), 0.5 - 0.4 / (6 * deviation), 0]
    second = [0.5 + 10 / 60, 0, 0, 0.5 - 10 / 60]
    assert np.allclose(fusion.distribution_based(UNION), [np.add(first, second)])


def test_scores_far_outside_keep_their_order():
    """They used to be cut at 3 deviations, where the best results of a query became equal and the lowest id won."""
    ids, scores = np.arange(200)[None], np.concatenate([[900.0, 1000.0], np.zeros(198)])[None]
    alone = Union.of((ids, np.full((1, 0), NONE)), (scores, np.zeros((1, 0))))
    fused = fusion.distribution_based(alone)
    assert alone.best(fused, 2).tolist() == [[1, 0]] and fused[0, 0] > 1


def test_equal_scores_and_empty_results_have_no_undefined_value():
    ids = np.array([[3, 5], [NONE, NONE]]), np.array([[NONE, NONE], [NONE, NONE]])
    scores = np.array([[0.4, 0.4], [-np.inf, -np.inf]]), np.full((2, 2), -np.inf)
    union = Union.of(ids, scores)
    for fused in (fusion.reciprocal_rank(union), fusion.convex(union, 0.5), fusion.distribution_based(union)):
        assert np.isfinite(fused).all()
        assert union.best(fused, 3).tolist() == [[3, 5, NONE], [NONE] * 3]


@given(st.data())
def test_results_are_those_of_plain_python(data):
    """Reciprocal ranks of random lists of different lengths, ties by id."""
    lists = [data.draw(st.lists(st.integers(0, 9), unique=True, max_size=6)) for _ in range(2)]
    ids = tuple(np.array([found + [NONE] * (6 - len(found))], np.int64) for found in lists)
    scores = tuple(np.where(of_side >= 0, -np.arange(6.0), -np.inf) for of_side in ids)
    union = Union.of(ids, scores)
    expected = {
        item: sum(1 / (60 + 1 + found.index(item)) for found in lists if item in found) for item in set(sum(lists, []))
    }
    order = sorted(expected, key=lambda item: (-expected[item], item))
    assert [i for i in union.best(fusion.reciprocal_rank(union), 12)[0].tolist() if i >= 0] == order


def test_a_cascade_reorders_its_first_results_only():
    ids = np.array([[5, 3, 8, 1], [2, NONE, NONE, NONE]])
    scores = np.array([[0.1, 0.7, 0.7], [0.3, -np.inf, -np.inf]])
    assert fusion.reranked(ids, scores, 3).tolist() == [[3, 8, 5, 1], [2, NONE, NONE, NONE]]
