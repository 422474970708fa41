"""Where flat search does not reach the R@1 of a lexicon index: both numbers and a paired test, computed by hand and by statsmodels."""

import numpy as np
import pytest
from scipy.stats import binomtest

from reports.build import build
from reports.findings import headline
from reports.findings.scale_answer import findings, verdicts
from reports.findings.scale_beyond import beyond, sentence, table
from reports.findings.scale_ratios import comparisons
from reports.pages import claims
from reports.pages.scale import answer as claim
from reports.records.scale import sweeps
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE, cell

QUERIES = 400


def hits(first: int, only: int = 0) -> np.ndarray:
    """Queries that are answered rightly: the first so many, and so many others that flat search, which has the first 40 to 80, answers wrongly."""
    found = np.zeros(QUERIES, bool)
    found[40 : 40 + first] = True
    found[200 : 200 + only] = True
    return found


@pytest.fixture
def ahead(made):
    """R@1 of flat search 10 %, at 20 queries/s; HNSW as good at 500. Lexicons: 30 % with 64 kept, 12.5 % with 32; Lucene as the latter, slower than flat."""
    of = {"bits": 8, "knobs": LEXICON, "exact": True}
    made.answered("lexicon", hits(40, 80), {ONE: 100.0, MANY: 300.0}, engine="impact", top_k=64, **of)
    made.answered("lexicon", hits(35, 15), {ONE: 200.0, MANY: 900.0}, engine="impact", top_k=32, **of)
    made.answered("lexicon", hits(35, 15), {ONE: 10.0}, engine="lucene", top_k=32, **of)
    made.answered("dense", hits(40), {ONE: 20.0, MANY: 600.0}, **FLAT)
    made.answered("dense", hits(40), {ONE: 500.0}, engine="faiss-hnsw", knobs={"ef": 16})
    return made


def test_each_stands_beside_flat_search(ahead):
    found = {(one.search.name, one.call): one for one in beyond(sweeps(ahead.evidence)[0])}
    assert {key: one.ratio for key, one in found.items()} == {
        ("impact, 64 kept", ONE): 5.0, ("impact, 32 kept", ONE): 10.0, ("lucene, 32 kept", ONE): 0.5,
        ("impact, 64 kept", MANY): 0.5, ("impact, 32 kept", MANY): 1.5,
    }  # fmt: skip
    clear, unclear = found["impact, 64 kept", ONE], found["impact, 32 kept", ONE]
    assert clear.gap.value == pytest.approx(0.2) and clear.gap.low < 0.2 < clear.gap.high
    # Holm's correction by hand: three searches were tested; McNemar's exact test, as each query has an image of its own
    assert clear.p == pytest.approx(3 * binomtest(80, 80).pvalue)
    assert unclear.p == pytest.approx(2 * binomtest(15, 20).pvalue)
    assert (clear.better, unclear.better) == (True, False)
    assert len(set(clear.points)) == 4 and set(clear.points) <= set(ahead.store.read().point_id)


def test_the_sentence_has_both_numbers_and_what_is_faster(ahead):
    sweep = sweeps(ahead.evidence)[0]
    said = sentence(sweep, ONE)
    assert said == (
        "impact with 64 lexicons top_k: 5.00× faster than flat search (100 queries/s) at R@1 30.0 % (p < 0.001); "
        "impact with 32 lexicons top_k: 10.0× faster than flat search (200 queries/s) at R@1 12.5 % (which chance may explain, p = 0.083); "
        "Lucene: 2.00× slower than flat search (10.0 queries/s) at R@1 12.5 % (which chance may explain, p = 0.083); "
        "flat search: 20.0 queries/s at 10.0 %; the fastest dense engine that is as good as flat search (faiss-hnsw ef=16): 500 queries/s at 10.0 %"
    )
    found = [one for one in findings(sweep, comparisons(sweep)) if "flat search" in one.what]
    assert [(one.verdict, one.what) for one in found] == [
        ("open", f"Beyond the R@1 of flat search, {MANY.label}"), ("wins", f"Faster and better than flat search, {ONE.label}"),
    ]  # fmt: skip
    assert found[1].sentence == f"I{said[1:]}."
    assert found[0].sentence.startswith(
        "Impact with 64 lexicons top_k: 2.00× slower than flat search (300 queries/s) at R@1 30.0 % (p < 0.001); impact with 32"
    )


def test_nothing_is_said_where_flat_search_reaches_all(made):
    made.answered("lexicon", hits(40), {ONE: 100.0}, engine="impact", top_k=64, bits=8, knobs=LEXICON)
    made.answered("dense", hits(40, 1), {ONE: 20.0}, **FLAT)
    sweep = sweeps(made.evidence)[0]
    assert (beyond(sweep), sentence(sweep, ONE), table(sweep)) == ([], "", None)
    assert not [one for one in findings(sweep, comparisons(sweep)) if "flat search" in one.what]


def test_without_paired_queries_it_is_no_win(small):
    sweep = sweeps(small.evidence)[0]
    assert (
        "impact with 256 lexicons top_k: 10.0× faster than flat search (100 queries/s) at R@1 60.0 % (without a paired test)"
        in sentence(sweep, ONE)
    )
    found = [one for one in findings(sweep, comparisons(sweep)) if one.what.startswith("Beyond the R@1 of flat search")]
    assert [one.verdict for one in found] == ["open", "open"]


def test_the_table(ahead):
    made = table(sweeps(ahead.evidence)[0])
    of = {"search": "impact", "top_k": "64", "called": ONE.label}
    assert cell(made, "recall@1", **of).startswith("30.0 [")
    assert cell(made, "gap", **of).startswith("+20.0 [+") and cell(made, "gap", **of).endswith("*")
    assert cell(made, "gap", **of | {"top_k": "32"})[-1] == "]"
    assert [cell(made, key, **of) for key in ("p", "qps", "flat qps", "ratio")] == ["< 0.001", "100", "20.0", "5.00×"]


def test_the_claim_says_how_fast_it_is_there(ahead):
    paper, *_ = claim.section(ahead.evidence).tables
    speed = f"Speed against flat, {ONE.label}"
    assert cell(paper, "impact", what=speed) == "5.00× to 10.0× faster at an R@1 that flat search does not reach"
    assert cell(paper, "lucene", what=speed) == "2.00× slower at an R@1 that flat search does not reach"
    sweep = sweeps(ahead.evidence)[0]
    assert (
        "no ratio at equal quality; at the higher R@1 5.00× to 10.0× faster." in verdicts(sweep, comparisons(sweep))[0]
    )


def test_some_at_equal_quality_and_some_beyond(ahead):
    ahead.answered("lexicon", hits(20), {ONE: 400.0}, engine="impact", top_k=4, bits=8, knobs=LEXICON)
    paper = claim.section(ahead.evidence).tables[0]
    words = "20.0× faster; 5.00× to 10.0× faster at an R@1 that flat search does not reach (2 of 3)"
    assert cell(paper, "impact", what=f"Speed against flat, {ONE.label}") == words


def test_a_million_images_fill_the_paper_s_table(made):
    at = {"images": 1_000_000}
    made.answered("lexicon", hits(40, 80), {ONE: 100.0}, engine="impact", top_k=64, bits=8, knobs=LEXICON, **at)
    made.answered("dense", hits(40), {ONE: 20.0}, **FLAT, **at)
    (found,) = claims.section(made.evidence).tables
    said = cell(found, "large", claim="Large-scale retrieval against CLIP: speed")
    assert said == f"{ONE.label}: 5.00× faster at an R@1 that flat search does not reach"


def test_the_first_page_has_the_best_of_both_and_their_speed(ahead, tmp_path, undrawn):
    found = next(one for one in headline.at_scale(ahead.evidence) if one.what == headline.QUALITY)
    assert found.verdict == "wins"
    assert found.sentence.startswith(
        "Over 10,000 images the best lexicon search (impact, 64 kept) has R@1 30.0 %, the best dense one (faiss-flat) 10.0 %: +20.0 points (95% interval +"
    )
    assert found.sentence.endswith(
        "400 queries). It is 5.00× faster than faiss-flat and 5.00× slower than faiss-hnsw, the fastest dense engine as good as faiss-flat (one query at a time, 1 thread)."
    )
    assert found.sentence in build(ahead.home, tmp_path / "site").read_text(encoding="utf-8")


def test_vectors_of_one_s_own_are_tested_too(made):
    """They have no corpus of pictures, and stand apart from the other records."""
    at = {"corpus": "vectors:mine", "profile": ""}
    made.answered("lexicon", hits(40, 80), {ONE: 100.0}, engine="impact", top_k=64, bits=8, knobs=LEXICON, **at)
    made.answered("dense", hits(40), {ONE: 20.0}, **FLAT, **at)
    made.impact(32, 0.4, 1.0, 1.0, 10.0)
    sweep = next(sweep for sweep in sweeps(made.evidence) if sweep.corpus == "vectors:mine")
    assert [one.better for one in beyond(sweep)] == [True]
