"""An exact paired test over groups of queries: how often chance alone, which may swap the two sides within any group, makes a difference as large.

The captions of an image succeed and fail together, so a group is swapped as a whole (Fisher's randomisation test; where each group is one query with a
hit or none it is McNemar's exact test). No resampling: p has no floor, so a real difference survives the correction for hundreds of comparisons, which
10,000 resamples could never show.
"""

import functools

import numpy as np
from scipy import stats

RESOLUTION = 2520
"""A share of up to 10 relevant items is a whole number of so many parts; any other outcome is rounded to one."""


def p_value(differences: np.ndarray) -> float | None:
    """Two-sided p of the sum of the groups' differences (G,); None where no group differs, so that there is nothing to test.

    Each group's difference is as likely with the other sign when only chance tells the sides apart.
    """
    parts = np.rint(np.asarray(differences, np.float64) * RESOLUTION).astype(np.int64)
    parts = parts[parts != 0]
    if not len(parts):
        return None
    sizes = np.abs(parts) // np.gcd.reduce(parts)
    total, positive = int(sizes.sum()), int(sizes[parts > 0].sum())
    chances = np.ones(1)  # of each sum of the sizes whose sign is positive
    for size, groups in zip(*np.unique(sizes, return_counts=True), strict=True):
        steps = np.zeros(size * groups + 1)
        steps[::size] = _heads(int(groups))
        chances = np.convolve(chances, steps)
    return float(min(1.0, 2 * chances[max(positive, total - positive) :].sum()))


@functools.lru_cache(maxsize=1024)
def _heads(tosses: int) -> np.ndarray:
    """(tosses + 1,) the chance of each number of heads."""
    return stats.binom.pmf(np.arange(tosses + 1), tosses, 0.5)
