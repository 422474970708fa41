"""Kendall's tau of scores and grades, and what each image contributes to it. numpy, and scipy for tau itself.

Ties are frequent: the grades have few levels, and lexicon vectors that share no lexicon score 0.
    tau-b = (C - D) / sqrt(untied pairs of scores x untied pairs of grades)
    tau-c = 2 (C - D) / (n^2 (m - 1) / m), m the smaller number of different values
with C concordant and D discordant pairs out of n (n - 1) / 2 (Kendall, 1945; Stuart, 1953).
"""

import numpy as np


def tau(scores_N: np.ndarray, grades_N: np.ndarray, variant: str) -> float:
    """Kendall's tau-b or tau-c (variant "b" or "c"), in n log n; NaN if all scores or all grades are equal."""
    from scipy.stats import kendalltau  # takes a second to import

    return float(kendalltau(scores_N, grades_N, variant=variant, method="asymptotic").statistic)


def outcomes(scores_N: np.ndarray, grades_N: np.ndarray, images_N: np.ndarray, variant: str) -> np.ndarray:
    """(G,) float64, one per image: tau plus G x the image's influence on it. Their mean is tau.

    An interval of these means is that of tau over images, to first order (the infinitesimal jackknife; Efron and
    Tibshirani, 1993, chapter 22), so intervals and paired differences are those of any mean over images. The influence
    is the derivative of tau by the weight of the image, at equal weights.

    images_N: number of the image of each pair, 0..G-1. NaN where tau is not defined. Trap: m of tau-c stays that of all
    pairs.
    """
    groups = int(images_N.max()) + 1

    def of_images(values_N: np.ndarray) -> np.ndarray:
        return np.bincount(images_N, weights=values_N, minlength=groups)

    agreement_G = of_images(agreement(scores_N, grades_N))
    if variant == "c":
        pairs, levels = len(scores_N), min(len(np.unique(scores_N)), len(np.unique(grades_N)))
        scale = levels / (levels - 1) / pairs**2 if levels > 1 else np.nan
        of_size_G = of_images(np.ones(pairs)) / pairs
        value = agreement_G.sum() * scale
        return value + groups * 2 * (agreement_G * scale - value * of_size_G)
    scores_G, grades_G = (of_images(untied(values_N)) for values_N in (scores_N, grades_N))
    size = np.sqrt(scores_G.sum() * grades_G.sum()) or np.nan
    value = agreement_G.sum() / size
    of_ties_G = (scores_G / (scores_G.sum() or np.nan) + grades_G / (grades_G.sum() or np.nan)) / 2
    return value + groups * 2 * (agreement_G / size - value * of_ties_G)


def agreement(scores_N: np.ndarray, grades_N: np.ndarray) -> np.ndarray:
    """(N,) concordant minus discordant pairs that each pair of image and caption is in.

    The time grows with the number of different grades, of which there are few.
    """
    levels, level_N = np.unique(grades_N, return_inverse=True)
    found_N = np.zeros(len(scores_N))
    for level in range(len(levels)):
        others = np.sort(scores_N[level_N == level])
        lower_N = np.searchsorted(others, scores_N, "left")
        higher_N = len(others) - np.searchsorted(others, scores_N, "right")
        found_N += np.sign(level_N - level) * (lower_N - higher_N)
    return found_N


def untied(values_N: np.ndarray) -> np.ndarray:
    """(N,) number of other values that differ from each value."""
    _, which_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (len(values_N) - counts[which_N]).astype(np.float64)
