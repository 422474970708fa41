"""How many times faster and smaller, at equal R@1: computed by hand."""

import numpy as np
import pytest

from reports.findings.paired import as_good
from reports.findings.ratios import lexicon_side, smaller, speedup
from reports.records.sweep import sweeps
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE


@pytest.fixture
def impact(small):
    """top-k -> the search of `impact` with 8 bits."""
    return {search.top_k: search for search in lexicon_side(sweeps(small.evidence)[0], "impact", "lexlip")}


def test_the_lexicon_side_is_an_engine_by_lexicons_kept(impact):
    assert [(top_k, search.bits) for top_k, search in impact.items()] == [(4, 8), (32, 8), (256, 8)]


@pytest.mark.parametrize(
    ("top_k", "call", "expected"),
    [(4, ONE, 200.0), (32, ONE, 60.0), (32, MANY, 20.0), (256, ONE, "not reached")],  # 2000 / 10, 600 / 10, 3000 / 150
)
def test_ratios_are_against_flat_search_of_equal_quality(small, impact, top_k, call, expected):
    found = speedup(sweeps(small.evidence)[0], impact[top_k], call)
    if isinstance(expected, str):
        assert found.missing == expected and found.n == "R@1 of flat search: 50.0 %"
        return
    assert found.value == pytest.approx(expected)
    assert len(set(found.points)) == 4  # accuracy and rate of both sides
    assert set(found.points) <= set(small.store.read().point_id)


def test_a_low_quality_has_no_ratio(made):
    made.impact(32, 0.09, 600.0, 3000.0, 64.0)
    made.search("dense", 0.09, {ONE: 10.0}, 2048.0, **FLAT)
    sweep = sweeps(made.evidence)[0]
    (mine,) = lexicon_side(sweep, "impact", "lexlip")
    assert speedup(sweep, mine, ONE).missing == "R@1 below 10%"


def test_generated_vectors_compare_exact_search_only(made):
    of = {"corpus": "synthetic:scenes"}
    made.impact(32, None, 600.0, 3000.0, 64.0, **of)
    made.search("lexicon", None, {ONE: 5000.0}, 64.0, engine="seismic", top_k=32, bits=8, **of)
    made.search("dense", None, {ONE: 10.0}, 2048.0, **of, **FLAT)
    sweep = sweeps(made.evidence)[0]
    (exact,), (other,) = (lexicon_side(sweep, engine, "lexlip") for engine in ("impact", "seismic"))
    assert speedup(sweep, exact, ONE).value == pytest.approx(60.0)
    assert speedup(sweep, other, ONE).missing == "not exact"
    assert speedup(sweep, exact, MANY).missing == "not measured", "flat search was not timed so"


def test_an_engine_that_ended_badly_says_how(small):
    for status, note in (("timeout", "build: 3,600 s"), ("out_of_memory", "search: 8 GiB")):
        small.ended("lexicon", status, note, engine="lucene", top_k=32, bits=8)
        sweep = sweeps(small.evidence)[0]
        (found,) = lexicon_side(sweep, "lucene", "lexlip")
        assert speedup(sweep, found, ONE).missing == f"{status.replace('_', ' ')}: {note}"
        assert smaller(sweep, found).missing == f"{status.replace('_', ' ')}: {note}"


def test_sizes(small, impact):
    sweep = sweeps(small.evidence)[0]
    found = {top_k: smaller(sweep, search) for top_k, search in impact.items()}
    assert found[256].value == pytest.approx(2048 / 400), "60 % against 50 % of flat search"
    assert found[4].missing == found[32].missing == "R@1 below that of flat search"


@pytest.mark.parametrize(
    ("only_lexicon", "only_dense", "equal"),
    [
        (88, 80, True),  # 0.4 points lower, as good as chance
        (8, 0, False),  # as far, but every query that differs says the same: p = 2 / 2^8
        (5, 0, True),  # 2 / 2^5
        (112, 100, False),  # chance too, but more than half a point
        (80, 88, True),
        (0, 0, True),
    ],
)
def test_equal_is_lower_by_little_and_by_chance(made, only_lexicon, only_dense, equal):
    lexicon, dense = np.zeros(2000, bool), np.zeros(2000, bool)
    lexicon[: 200 + only_lexicon], dense[:200] = True, True
    dense[200 + only_lexicon : 200 + only_lexicon + only_dense] = True
    made.answered("lexicon", lexicon, engine="impact", top_k=32, bits=8, knobs=LEXICON)
    made.answered("dense", dense, **FLAT)
    sweep = sweeps(made.evidence)[0]
    flat, impact = (next(search for search in sweep.searches if search.kind == kind) for kind in ("dense", "lexicon"))
    assert as_good(sweep.evidence, flat, impact) is equal
    assert bool(smaller(sweep, impact).missing) is not as_good(sweep.evidence, impact, flat)


def test_without_the_same_queries_only_what_is_as_high_is_equal(made):
    hits = np.arange(1000) < 250
    made.answered("lexicon", hits, engine="impact", top_k=32, bits=8, knobs=LEXICON)
    made.answered("dense", hits[1:], **FLAT)
    sweep = sweeps(made.evidence)[0]
    flat, impact = (next(search for search in sweep.searches if search.kind == kind) for kind in ("dense", "lexicon"))
    assert flat.recall < impact.recall
    assert not as_good(sweep.evidence, flat, impact)
