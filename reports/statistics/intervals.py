"""Intervals and tests of means and paired differences, over trainings (seeds) and test images.

The outcome of an image under a seed is a mean, plus an effect of the seed, plus one of the image, plus the rest. A
mean over both has the variance of the seed means (a paired t-test over seeds, S - 1 degrees of freedom) plus that of
the images beyond the rest, which the seed means hold already. The critical value is that of Cochran and Cox
(Experimental Designs, 1957): those of both t distributions, weighted by their shares of the variance.

It was chosen by simulation (`tests/reports/statistics/test_coverage.py`). With the spread of the reference run, its
95% intervals cover 94 to 97% at 2, 3, 5 and 10 seeds. A t-test over seed means alone covers 53 to 95%, as all seeds
share their images; Satterthwaite's degrees of freedom 87 to 96%.

The captions of an image succeed and fail together, so an image with its captions is one observation.

Array names carry their shape as a suffix: S seeds, G groups (a group is an image with its captions).
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy

CONFIDENCE = 0.95
POWER = 0.8
LEAST_SEEDS = 3
"""Trainings that a test needs."""
LEAST_P = 1e-15
UNSEEDED = -1
"""Seed of a baseline that was not trained."""


@dataclass(frozen=True)
class Estimate:
    """A mean, or a mean of paired differences.

    low, high: 95% interval, over images alone for one seed. error: standard error. Both None for one group. share: of
    the variance that seeds have.
    """

    value: float
    low: float | None
    high: float | None
    error: float | None
    queries: int
    groups: int
    seeds: int
    share: float = 0.0

    @property
    def is_tested(self) -> bool:
        """Whether there are enough seeds for a test of what another training would show."""
        return self.seeds >= LEAST_SEEDS and self.error is not None

    @functools.cached_property
    def p(self) -> float | None:
        """Two-sided p-value of a mean of 0; None with fewer than `LEAST_SEEDS` seeds."""
        if not self.is_tested:
            return None
        if not self.error:
            return 1.0 if self.value == 0 else LEAST_P
        least, most = np.log(LEAST_P), 0.0  # logarithm of p: the critical value falls as p rises
        for _ in range(60):
            middle = (least + most) / 2
            if self.critical(np.exp(middle)) > abs(self.value) / self.error:
                least = middle
            else:
                most = middle
        return float(np.exp(most))

    def critical(self, level: float) -> float:
        """Standard errors that a mean of 0 exceeds, on either side, with this probability."""
        return _critical(level, self.groups, self.seeds, self.share)

    def detectable(self, level: float) -> float | None:
        """Least true difference that a test at `level` finds with a probability of 80%; None if untested."""
        return (self.critical(level) + self.critical(2 * (1 - POWER))) * self.error if self.is_tested else None


def mean(outcomes: pd.DataFrame) -> Estimate | None:
    """Mean outcome over seeds and images with its interval; None without finite outcomes.

    outcomes: columns seed, query_id, group and outcome (float), one row per query and seed. Bounds of a share stay
    between 0 and 1.
    """
    found = _estimate(outcomes)
    if found is None or found.low is None or not outcomes["outcome"].dropna().between(0, 1).all():
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def difference(outcomes: pd.DataFrame, reference: pd.DataFrame) -> Estimate | None:
    """Mean of `outcomes` minus `reference`, paired by query and seed; None if no query of the same seed is shared.

    Outcomes of an untrained baseline (seed `UNSEEDED`) are paired with each seed of the reference.
    """
    if len(outcomes) and (outcomes["seed"] == UNSEEDED).all():
        outcomes = outcomes.drop(columns="seed").merge(reference[["seed"]].drop_duplicates(), how="cross")
    paired = outcomes.merge(
        reference[["seed", "query_id", "outcome"]], on=["seed", "query_id"], suffixes=("", "_reference")
    )
    return _estimate(paired.assign(outcome=paired["outcome"] - paired["outcome_reference"]))


def components(totals_SG: np.ndarray, counts_SG: np.ndarray) -> tuple[float, float, float]:
    """Mean of the seed means; and the parts of its variance that seeds have (with the rest) and that images have.

    totals_SG, counts_SG: sum and number of outcomes; two groups at least. With one seed, images have all.
    """
    seeds, groups = totals_SG.shape
    sizes_S1 = counts_SG.sum(1, keepdims=True)
    means_S1 = totals_SG.sum(1, keepdims=True) / sizes_S1
    parts_SG = (totals_SG - means_S1 * counts_SG) / sizes_S1  # of each group in the mean of its seed
    parts_G = parts_SG.mean(0)
    of_images = (parts_G**2).sum() * groups / (groups - 1)
    if seeds < 2:
        return float(means_S1.mean()), 0.0, float(of_images)
    rest = ((parts_SG - parts_G) ** 2).sum() * groups / (groups - 1) / (seeds * (seeds - 1))
    return float(means_S1.mean()), float(means_S1.var(ddof=1) / seeds), float(max(0.0, of_images - rest))


def of_groups(totals_SG: np.ndarray, counts_SG: np.ndarray, queries: int) -> Estimate:
    """The estimate from sums and numbers of outcomes."""
    seeds, groups = totals_SG.shape
    if groups < 2:
        value = float((totals_SG.sum(1) / counts_SG.sum(1)).mean())
        return Estimate(value, None, None, None, queries, groups, seeds)
    value, of_seeds, of_images = components(totals_SG, counts_SG)
    error = float(np.sqrt(of_seeds + of_images))
    share = of_seeds / (of_seeds + of_images) if error else 0.0
    half = _critical(1 - CONFIDENCE, groups, seeds, share) * error
    return Estimate(value, value - half, value + half, error, queries, groups, seeds, share)


def _estimate(outcomes: pd.DataFrame) -> Estimate | None:
    outcomes = outcomes[np.isfinite(outcomes["outcome"].to_numpy(float))]
    if outcomes.empty:
        return None
    return of_groups(*_by_seed_and_group(outcomes), int(outcomes["query_id"].nunique()))


def _critical(level: float, groups: int, seeds: int, share: float) -> float:
    of_images = -scipy.special.stdtrit(groups - 1, level / 2)
    if seeds < 2:
        return float(of_images)
    return float(share * -scipy.special.stdtrit(seeds - 1, level / 2) + (1 - share) * of_images)


def _by_seed_and_group(outcomes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(S, G) sums and (S, G) counts of the outcomes."""
    seed, seeds = pd.factorize(outcomes["seed"], sort=True, use_na_sentinel=False)
    group, groups = pd.factorize(outcomes["group"], sort=True, use_na_sentinel=False)
    shape = len(seeds), len(groups)
    flat = seed * len(groups) + group
    totals = np.bincount(flat, weights=outcomes["outcome"].to_numpy(float), minlength=shape[0] * shape[1])
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    return totals.reshape(shape), counts.reshape(shape)
