"""Coverage of the intervals, false alarms and power of the tests, simulated with the spread of the reference run.

The short form runs in the gate, the long one nightly: `pytest -m nightly tests/reports/statistics/test_coverage.py`.
"""

from pathlib import Path

import numpy as np
import pytest

from reports.records.bundle import open_records
from reports.records.evidence import Evidence, Reading
from reports.statistics import intervals

REFERENCE = Path(__file__).resolve().parents[3] / "results" / "reference"
SEEDS = (2, 3, 5, 10)
IMAGES = 1000
# Standard deviations of R@1 over seeds, over images, and of the rest, of the variants with three seeds.
MEANS = (
    (0.065, 0.263, 0.250),
    (0.005, 0.249, 0.230),
    (0.014, 0.275, 0.240),
    (0.064, 0.249, 0.265),
    (0.013, 0.272, 0.256),
)
# The same of their differences to lexlip; the last have two seeds.
DIFFERENCES = (
    (0.080, 0.048, 0.319),
    (0.010, 0.210, 0.332),
    (0.080, 0.013, 0.343),
    (0.0, 0.076, 0.295),
    (0.032, 0.121, 0.322),
)
LEAST, MOST = 0.93, 0.97


def simulated(rng, spread, seeds: int, value: float = 0.0) -> intervals.Estimate:
    """The estimate from one run of `seeds` trainings on `IMAGES` images of a mean `value`."""
    of_seeds, of_images, rest = spread
    outcomes_SG = (
        value
        + rng.normal(0, of_seeds, (seeds, 1))
        + rng.normal(0, of_images, IMAGES)
        + rng.normal(0, rest, (seeds, IMAGES))
    )
    return intervals.of_groups(outcomes_SG, np.ones((seeds, IMAGES)), 5 * IMAGES)


def coverage(rng, spread, seeds: int, runs: int) -> float:
    found = [simulated(rng, spread, seeds) for _ in range(runs)]
    return float(np.mean([one.low <= 0 <= one.high for one in found]))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("spreads", [MEANS, DIFFERENCES], ids=["means", "differences"])
def test_intervals_cover(spreads, seeds):
    rng = np.random.default_rng(seeds)
    assert LEAST <= np.mean([coverage(rng, spread, seeds, runs=300) for spread in spreads]) <= MOST


@pytest.mark.parametrize("seeds", [3, 5])
def test_false_alarms_and_power(seeds):
    """A true difference of 0 is found in about 5% of runs, and one of the least detectable size in about 80%."""
    rng, spread, runs, level = np.random.default_rng(seeds), DIFFERENCES[1], 600, 0.05
    nothing = [simulated(rng, spread, seeds) for _ in range(runs)]
    assert 0.02 <= np.mean([one.p < level for one in nothing]) <= 0.07
    size = float(np.sqrt(np.mean([one.detectable(level) ** 2 for one in nothing])))
    assert 0.7 <= np.mean([simulated(rng, spread, seeds, size).p < level for _ in range(runs)]) <= 0.9


@pytest.mark.nightly
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("spread", MEANS + DIFFERENCES)
def test_intervals_cover_for_every_spread(spread, seeds):
    assert LEAST <= coverage(np.random.default_rng(7), spread, seeds, runs=8000) <= MOST + 0.01


@pytest.mark.nightly
@pytest.mark.parametrize("seeds", SEEDS)
def test_intervals_of_shares_of_five_captions_cover(seeds):
    """As few captions hit or miss, outcomes are no normal distribution; R@1 is 10% here."""
    rng, runs, covered = np.random.default_rng(8), 4000, 0
    for _ in range(runs):
        chances = rng.beta(0.5, 4.5, IMAGES) + rng.normal(0, 0.01, (seeds, 1))
        hits = rng.binomial(5, np.clip(chances, 0, 1))
        found = intervals.of_groups(hits, np.full(hits.shape, 5), 5 * IMAGES)
        covered += found.low <= EXPECTED_SHARE <= found.high
    assert LEAST <= covered / runs <= MOST + 0.01


_RNG = np.random.default_rng(9)
EXPECTED_SHARE = float(np.clip(_RNG.beta(0.5, 4.5, 10**6) + _RNG.normal(0, 0.01, 10**6), 0, 1).mean())


@pytest.mark.nightly
def test_the_spread_is_that_of_the_reference():
    evidence = Evidence(open_records(REFERENCE), Reading(profile="quick"))
    found = {
        name: _outcomes(evidence, name) for name in ("strong_decoder", "clip", "lexlip", "no_bottleneck", "no_momentum")
    }
    for values_SG, expected in zip(found.values(), MEANS, strict=True):
        assert _spread(values_SG) == pytest.approx(expected, abs=0.001)
    others = [values_SG - found["lexlip"] for name, values_SG in found.items() if name != "lexlip"]
    for values_SG, expected in zip(others, DIFFERENCES, strict=False):
        assert _spread(values_SG) == pytest.approx(expected, abs=0.001)


def _outcomes(evidence: Evidence, variant: str) -> np.ndarray:
    """(seeds, images) R@1."""
    at = evidence.retrieval() | evidence.operating_point(variant)
    points = evidence.measured(variant, "recall@1", **at, batch_mode="").point_id
    found = evidence.outcomes(points, "recall@1")
    return found.pivot_table(index="seed", columns="group", values="outcome").to_numpy()


def _spread(values_SG: np.ndarray) -> tuple[float, float, float]:
    """Standard deviations over seeds, over images, and of the rest, by analysis of variance."""
    seeds, images = values_SG.shape
    by_seed, by_image = values_SG.mean(1, keepdims=True), values_SG.mean(0)
    rest = ((values_SG - by_seed - by_image + values_SG.mean()) ** 2).sum() / (seeds - 1) / (images - 1)
    of_seeds, of_images = by_seed.var(ddof=1) - rest / images, by_image.var(ddof=1) - rest / seeds
    return tuple(float(np.sqrt(max(0.0, part))) for part in (of_seeds, of_images, rest))
