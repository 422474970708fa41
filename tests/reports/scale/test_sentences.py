"""What a sweep says of the claim, in words."""

import pytest

from reports.findings.scale_answer import findings, verdicts
from reports.findings.scale_ratios import comparisons
from reports.records.scale import sweeps
from tests.reports.scale.records import FLAT, ONE


def test_losses_come_first(small):
    sweep = sweeps(small.evidence)[0]
    found = findings(sweep, comparisons(sweep))
    assert [finding.verdict for finding in found] == ["loses", "loses", "open", "open", "open", "wins"]
    assert [finding.what for finding in found] == [
        "Speed, one query at a time, 1 thread",
        "Index size",
        "R@1",
        "Beyond the R@1 of flat search, one query at a time, 1 thread",
        "Beyond the R@1 of flat search, in batches, 2 threads",
        "Speed, in batches, 2 threads",
    ]
    assert "a dense engine is faster than impact with 4 lexicons kept (by up to 1.50×" in found[0].sentence
    assert "no dense engine that ran reaches the R@1 of impact with 256 lexicons kept" in found[0].sentence
    assert "As good as flat dense search for impact with 256 lexicons kept, and below it otherwise" in found[2].sentence
    assert all(finding.points for finding in found)


def test_lower_quality_at_every_number_kept_is_a_loss(made):
    made.impact(4, 0.20, 2000.0, 9000.0, 20.0)
    made.impact(32, 0.40, 600.0, 3000.0, 64.0)
    made.search("dense", 0.50, {ONE: 10.0}, 2048.0, **FLAT)
    sweep = sweeps(made.evidence)[0]
    first = findings(sweep, comparisons(sweep))[0]
    assert (first.verdict, first.what) == ("loses", "R@1")
    assert first.sentence.startswith(
        "Below flat dense search at every number of lexicons kept: flat dense search has 50.0 %"
    )
    assert first.sentence.endswith("40.0 %, −10.0 points.")
    said = verdicts(sweep, comparisons(sweep))
    assert (
        said[0]
        == "Speed against flat search, one query at a time: 60.0× to 200× here, within the 5.5× to 221.3× of arXiv v1 (ICCV version: 5.8×)."
    )
    assert said[1].startswith("Index against flat float32: 32.0× to 102× here, partly within the 13.2× to 48.8×")
    assert "impact with 4 and 32 lexicons kept, R@1 is −10.0 to −30.0 points" in said[2]


@pytest.mark.parametrize(("rate", "relation"), [(20.0, "below"), (100.0, "within"), (5000.0, "above")])
def test_one_ratio_against_the_published_range(made, rate, relation):
    made.impact(32, 0.50, rate, rate, 64.0)
    made.search("dense", 0.50, {ONE: 10.0}, 2048.0, **FLAT)
    sweep = sweeps(made.evidence)[0]
    said = verdicts(sweep, comparisons(sweep))
    assert f"here, {relation} the 5.5× to 221.3×" in said[0]
    assert said[2] == "Quality: R@1 is as good as that of flat search at every number of lexicons kept."
