"""Exact paired sign-flip test over groups of queries (Fisher's randomisation test).

Under the null hypothesis, each group's difference is as likely with the opposite sign. The captions of an image
succeed and fail together, so a group is flipped as a whole. Where each group is one query with hit or miss, this is
McNemar's exact test. There is no resampling, so p has no floor: a real difference survives the correction for
hundreds of comparisons, which 10,000 resamples could never show.
"""

import functools

import numpy as np

RESOLUTION = 2520
"""Outcomes are rounded to multiples of 1/RESOLUTION; any share of up to 10 relevant items is such a multiple."""


def p_value(differences: np.ndarray) -> float | None:
    """Two-sided p-value of the sum of the differences (G,) of groups; None if no group differs."""
    parts = np.rint(np.asarray(differences, np.float64) * RESOLUTION).astype(np.int64)
    parts = parts[parts != 0]
    if not len(parts):
        return None
    sizes = np.abs(parts) // np.gcd.reduce(parts)
    total, positive = int(sizes.sum()), int(sizes[parts > 0].sum())
    chances = np.ones(1)  # probability of each sum of the sizes with a positive sign
    for size, groups in zip(*np.unique(sizes, return_counts=True), strict=True):
        steps = np.zeros(size * groups + 1)
        steps[::size] = _heads(int(groups))
        chances = np.convolve(chances, steps)
    return float(min(1.0, 2 * chances[max(positive, total - positive) :].sum()))


@functools.lru_cache(maxsize=1024)
def _heads(tosses: int) -> np.ndarray:
    """(tosses + 1,) probability of each number of heads."""
    from scipy import stats  # takes half a second to import

    return stats.binom.pmf(np.arange(tosses + 1), tosses, 0.5)
