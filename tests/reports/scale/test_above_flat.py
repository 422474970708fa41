"""Searches whose R@1 flat search does not reach: ratios and a paired test, by hand and by scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest

from reports.findings import answer
from reports.findings.above_flat import above_flat
from reports.pages import claims
from reports.pages.scale import claim
from reports.records.evidence import Evidence, Reading
from reports.records.sweep import sweeps
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE, cell

QUERIES = 400


def hits(first: int, only: int = 0) -> np.ndarray:
    """Hits of a search: `first` queries that flat search hits too, if 40, and `only` queries that it misses."""
    found = np.zeros(QUERIES, bool)
    found[40 : 40 + first] = True
    found[200 : 200 + only] = True
    return found


@pytest.fixture
def ahead(made):
    """R@1 of flat search: 10 % at 20 queries/s. Lexicons: 30 % at top-64, 12.5 % at top-32, also with Lucene."""
    of = {"bits": 8, "knobs": LEXICON, "exact": True}
    made.answered("lexicon", hits(40, 80), {ONE: 100.0, MANY: 300.0}, engine="impact", top_k=64, **of)
    made.answered("lexicon", hits(35, 15), {ONE: 200.0, MANY: 900.0}, engine="impact", top_k=32, **of)
    made.answered("lexicon", hits(35, 15), {ONE: 10.0}, engine="lucene", top_k=32, **of)
    made.answered("dense", hits(40), {ONE: 20.0, MANY: 600.0}, **FLAT)
    made.answered("dense", hits(40), {ONE: 500.0}, engine="faiss-hnsw", knobs={"ef": 16})
    return made


def test_each_stands_beside_flat_search(ahead):
    found = {(one.search.engine, one.search.top_k, one.call): one for one in above_flat(sweeps(ahead.evidence)[0])}
    assert {key: one.ratio for key, one in found.items()} == {
        ("impact", 64, ONE): 5.0, ("impact", 32, ONE): 10.0, ("lucene", 32, ONE): 0.5,
        ("impact", 64, MANY): 0.5, ("impact", 32, MANY): 1.5,
    }  # fmt: skip
    clear, unclear = found["impact", 64, ONE], found["impact", 32, ONE]
    assert clear.gap.value == pytest.approx(0.2) and clear.gap.low < 0.2 < clear.gap.high
    # Holm's correction by hand: three searches were tested; McNemar's exact test, as each query has an image of its own
    assert clear.p == pytest.approx(3 * binomtest(80, 80).pvalue)
    assert unclear.p == pytest.approx(2 * binomtest(15, 20).pvalue)
    assert (clear.better, unclear.better) == (True, False)
    assert len(set(clear.points)) == 4 and set(clear.points) <= set(ahead.store.read().point_id)


def test_the_table(ahead):
    made = claim.above_flat_table(sweeps(ahead.evidence)[0])
    of = {"search": "impact", "top_k": "64", "called": ONE.label}
    assert cell(made, "recall@1", **of).startswith("30.0 [")
    assert cell(made, "gap", **of).startswith("+20.0 [+") and cell(made, "gap", **of).endswith("*")
    assert cell(made, "gap", **of | {"top_k": "32"})[-1] == "]"
    assert [cell(made, key, **of) for key in ("p", "qps", "flat qps", "ratio")] == ["< 0.001", "100", "20.0", "5.00×"]


def test_nothing_where_flat_search_reaches_all(made):
    made.answered("lexicon", hits(40), {ONE: 100.0}, engine="impact", top_k=64, bits=8, knobs=LEXICON)
    made.answered("dense", hits(40, 1), {ONE: 20.0}, **FLAT)
    sweep = sweeps(made.evidence)[0]
    assert (above_flat(sweep), claim.above_flat_table(sweep)) == ([], None)


def test_without_per_query_results_it_is_not_better(small):
    found = [one for one in above_flat(sweeps(small.evidence)[0]) if one.call == ONE]
    assert [(one.search.top_k, one.ratio, one.p, one.better) for one in found] == [(256, 10.0, None, False)]


def test_the_claim_has_the_ratios(ahead):
    paper, *_ = claim.section(ahead.evidence).tables
    keys = "equal least", "count", "above least", "above most"
    of = {"what": f"Speed against flat, {ONE.label}"}
    assert [cell(paper, key, engine="impact", **of) for key in keys] == ["not reached", "0 of 2", "5.00×", "10.0×"]
    assert [cell(paper, key, engine="lucene", **of) for key in keys] == ["not reached", "0 of 1", "0.500×", "0.500×"]


def test_some_at_equal_quality_and_some_above(ahead):
    ahead.answered("lexicon", hits(40), {ONE: 400.0}, engine="impact", top_k=4, bits=8, knobs=LEXICON)
    paper, *_ = claim.section(ahead.evidence).tables
    of = {"what": f"Speed against flat, {ONE.label}", "engine": "impact"}
    keys = "equal least", "equal most", "count", "above least", "above most"
    assert [cell(paper, key, **of) for key in keys] == ["20.0×", "20.0×", "1 of 3", "5.00×", "10.0×"]


def test_a_million_images_fill_the_table_of_the_paper(made):
    at = {"images": 1_000_000}
    made.answered("lexicon", hits(40), {ONE: 100.0}, engine="impact", top_k=64, bits=8, knobs=LEXICON, **at)
    made.answered("dense", hits(40), {ONE: 20.0}, **FLAT, **at)
    (found,) = claims.section(made.evidence).tables
    speed = "Large-scale retrieval against CLIP: speed, one query at a time"
    assert [cell(found, f"large {end}", claim=speed) for end in ("least", "most")] == ["5.00×", "5.00×"]


def test_the_answer_has_the_best_of_both(ahead):
    best = next(one for one in answer.at_scale(ahead.evidence) if one.what == answer.BEST)
    assert (best.verdict, best.reference.value, best.baseline.value) == ("wins", 0.3, 0.1)
    assert best.difference.value == pytest.approx(0.2) and best.difference.low > 0


def test_vectors_of_one_s_own_are_tested_too(made):
    """They have no corpus of images."""
    at = {"corpus": "vectors:mine", "profile": "", "data_id": "mine", "variant": "", "checkpoint_id": ""}
    made.answered("lexicon", hits(40, 80), {ONE: 100.0}, engine="impact", top_k=64, bits=8, knobs=LEXICON, **at)
    made.answered("dense", hits(40), {ONE: 20.0}, **FLAT, **at)
    made.impact(32, 0.4, 1.0, 1.0, 10.0)
    (sweep,) = sweeps(Evidence(made.store, Reading(corpus="vectors:mine")))
    assert [one.better for one in above_flat(sweep)] == [True]
