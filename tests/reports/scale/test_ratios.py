"""How many times faster and smaller, at equal R@1: computed by hand."""

import numpy as np
import pytest

from reports.findings.paired import as_good
from reports.findings.ratios import comparisons, lexicon_side, sizes
from reports.records.sweep import sweeps
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE


def test_the_lexicon_side_is_impact_by_lexicons_kept(small):
    assert [(search.top_k, search.bits) for search in lexicon_side(sweeps(small.evidence)[0])] == [
        (4, 8),
        (32, 8),
        (256, 8),
    ]


@pytest.mark.parametrize(
    ("top_k", "column", "expected"),
    [
        (4, "flat single", 200.0),  # 2000 / 10
        (4, "hnsw", 2.0),  # 2000 / 1000: the point of 30 % is good enough for 20 %
        (4, "ivf", 2000 / 3000),
        (4, "any", 2000 / 3000),
        (32, "flat single", 60.0),
        (32, "hnsw", 1.5),  # 600 / 400: the point of 30 % is not good enough for 40 %
        (32, "any", 1.5),
    ],
)
def test_ratios_are_against_the_fastest_of_equal_quality(small, top_k, column, expected):
    rows = comparisons(sweeps(small.evidence)[0])
    found = next(row for row in rows if row.search.top_k == top_k and row.call == ONE).speedup[column]
    assert found.value == pytest.approx(expected)
    ids = set(small.store.read().point_id)
    assert len(set(found.points)) == 4  # accuracy and rate of both sides
    assert set(found.points) <= ids


def test_words_where_there_is_no_ratio(small):
    rows = comparisons(sweeps(small.evidence)[0])
    at = {(row.search.top_k, row.call): row.speedup for row in rows}
    assert at[256, ONE]["flat single"].missing == "not reached"
    assert at[256, ONE]["any"].missing == "not reached"
    assert at[256, ONE]["any"].n == "the best R@1 is 50.0 %"
    assert at[32, ONE]["ivf"].missing == "not reached"
    assert at[32, ONE]["flat batched"].missing == "not measured"  # in batches, with one thread
    assert at[32, MANY]["flat single"].missing == "not measured"
    assert at[32, MANY]["flat batched"].value == pytest.approx(20.0)  # 3000 / 150


def test_flat_batched_with_equal_threads_stands_beside_single_queries(small):
    small.write(small.point("dense", **FLAT, batch_mode="batched", threads=1), {"qps": 80.0})
    found = next(row for row in comparisons(sweeps(small.evidence)[0]) if row.search.top_k == 32 and row.call == ONE)
    assert found.speedup["flat batched"].value == pytest.approx(7.5)  # 600 / 80


def test_an_engine_that_ended_badly_says_how(small):
    for status, note in (("timeout", "build: 3,600 s"), ("out_of_memory", "search: 8 GiB")):
        small.ended("lexicon", status, note, engine="lucene", top_k=32, bits=8)
        rows = comparisons(sweeps(small.evidence)[0])
        found = next(row for row in rows if row.search.engine == "lucene" and row.call == ONE)
        assert found.speedup["any"].missing == f"{status.replace('_', ' ')}: {note}"


def test_sizes(small):
    at = {search.top_k: sizes(sweeps(small.evidence)[0], search) for search in lexicon_side(sweeps(small.evidence)[0])}
    assert at[32]["flat float32"].value == pytest.approx(32.0)  # 2048 / 64
    assert at[32]["flat float32"].mark == ""
    assert at[256]["flat float32"].mark == "†"  # 50 % against 60 %
    assert at[4]["PQ"].value == pytest.approx(1.6)
    assert (at[32]["PQ"].value, at[32]["PQ"].mark) == (pytest.approx(0.5), "†")  # half the size, and 25 % against 40 %
    assert at[32]["SQ8"].missing == "not measured"


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
    assert (sizes(sweep, impact)["flat float32"].mark == "") is equal


def test_without_the_same_queries_only_what_is_as_high_is_equal(made):
    hits = np.arange(1000) < 250
    made.answered("lexicon", hits, engine="impact", top_k=32, bits=8, knobs=LEXICON)
    made.answered("dense", hits[1:], **FLAT)
    sweep = sweeps(made.evidence)[0]
    flat, impact = (next(search for search in sweep.searches if search.kind == kind) for kind in ("dense", "lexicon"))
    assert flat.recall < impact.recall
    assert not as_good(sweep.evidence, flat, impact)
