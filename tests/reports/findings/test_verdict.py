"""The R@1 below which speeds are not compared."""

import pytest

from reports.findings import verdict
from reports.findings.ratios import lexicon_side, speedup
from reports.records.evidence import Evidence
from reports.records.sweep import sweeps
from tests.reports.scale.records import FLAT, IMPACT, ONE, Made


@pytest.mark.parametrize(
    ("recall", "images", "expected"),
    [
        (0.1, 1_000_000, True),
        (0.0999, 1_000_000, False),
        (0.15, 100, False),  # 20 times chance are 20%
        (0.2, 100, True),
        (None, 1000, False),
    ],
)
def test_least_recall(recall, images, expected):
    assert verdict.is_comparable(recall, images) is expected


@pytest.mark.parametrize(("recall", "ratio"), [(0.15, 20.0), (0.05, None)])
def test_no_ratio_of_speeds_at_a_low_recall(made, recall, ratio):
    sweep = Made(made.store)
    sweep.search("lexicon", recall, 200.0, top_k=32, **IMPACT)
    sweep.search("dense", recall, 10.0, **FLAT)
    found = sweeps(Evidence(made.store))[0]
    (mine,) = lexicon_side(found, "impact", "lexlip")
    cell = speedup(found, mine, ONE)
    assert (cell.value, cell.missing) == (ratio, "" if ratio else "R@1 below 10%")
