"""Bootstrap intervals and p-values of means and paired differences, over groups of queries and seeds.

The five captions of an image succeed and fail together, so images are resampled, not captions. The test images are
the same for every seed, so the two factors are crossed: each resample draws seeds and images once, and the weight of an
outcome is the product of both (Owen, 2007, "The pigeonhole bootstrap"). Drawing new images for each seed would make
the interval too narrow.

Array names carry their shape as a suffix: R resamples, S seeds, G groups (a group is an image with its captions).
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

RESAMPLES = 10_000
CONFIDENCE = 0.95
RANDOM_SEED = 20230202
UNSEEDED = -1
"""Seed of a baseline that was not trained."""


@dataclass(frozen=True)
class Estimate:
    """A mean, or a mean of paired differences. `low`, `high`: 95% interval; `p`: two-sided; None for one group."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    queries: int
    groups: int
    seeds: int


def mean(outcomes: pd.DataFrame, resamples: int = RESAMPLES) -> Estimate | None:
    """Mean outcome with its percentile bootstrap interval; None without finite outcomes.

    outcomes: columns seed, query_id, group and outcome (float), one row per query and seed. `p` tests a mean of 0.
    """
    outcomes = outcomes[np.isfinite(outcomes["outcome"].to_numpy(float))]
    if outcomes.empty:
        return None
    totals_SG, counts_SG = _by_seed_and_group(outcomes)
    seeds, groups = totals_SG.shape
    value = float(outcomes["outcome"].mean())
    size = {"queries": int(outcomes["query_id"].nunique()), "groups": groups, "seeds": seeds}
    if groups < 2:
        return Estimate(value, None, None, None, **size)
    draws_R = _draws(totals_SG, counts_SG, resamples)
    low, high = np.percentile(draws_R, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Estimate(value, float(low), float(high), _p_value(draws_R), **size)


def difference(outcomes: pd.DataFrame, reference: pd.DataFrame, resamples: int = RESAMPLES) -> Estimate | None:
    """Mean of `outcomes` minus `reference`, paired by query and seed; None if no query of the same seed is shared.

    Outcomes of an untrained baseline (seed `UNSEEDED`) are paired with each seed of the reference.
    """
    if len(outcomes) and (outcomes["seed"] == UNSEEDED).all():
        outcomes = outcomes.drop(columns="seed").merge(reference[["seed"]].drop_duplicates(), how="cross")
    paired = outcomes.merge(
        reference[["seed", "query_id", "outcome"]], on=["seed", "query_id"], suffixes=("", "_reference")
    )
    return mean(paired.assign(outcome=paired["outcome"] - paired["outcome_reference"]), resamples)


def _by_seed_and_group(outcomes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(S, G) sums and (S, G) counts of the outcomes."""
    seed, seeds = pd.factorize(outcomes["seed"], sort=True, use_na_sentinel=False)
    group, groups = pd.factorize(outcomes["group"], sort=True, use_na_sentinel=False)
    shape = len(seeds), len(groups)
    flat = seed * len(groups) + group
    totals = np.bincount(flat, weights=outcomes["outcome"].to_numpy(float), minlength=shape[0] * shape[1])
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    return totals.reshape(shape), counts.reshape(shape)


def _draws(totals_SG: np.ndarray, counts_SG: np.ndarray, resamples: int) -> np.ndarray:
    """(R,) the resampled means."""
    seeds, groups = totals_SG.shape
    group_weights_RG = _weights(groups, resamples, RANDOM_SEED)
    seed_weights_RS = _weights(seeds, resamples, RANDOM_SEED + 1)
    both_GS = np.concatenate([totals_SG, counts_SG]).T.astype(np.float32)
    sums_R2S = (group_weights_RG @ both_GS).astype(np.float64)
    total_R = (seed_weights_RS * sums_R2S[:, :seeds]).sum(1)
    count_R = (seed_weights_RS * sums_R2S[:, seeds:]).sum(1)
    return total_R / np.maximum(count_R, 1)


def _weights(items: int, resamples: int, random_seed: int) -> np.ndarray:
    """(R, items) float32: how often each item is drawn. The same draws serve every comparison, so that they pair."""
    return _counts(items, resamples, random_seed).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _counts(items: int, resamples: int, random_seed: int) -> np.ndarray:
    """The same as uint8, small enough to cache: a count is about 1, and never reaches 255."""
    rng = np.random.default_rng(random_seed)
    counts = np.empty((resamples, items), np.uint8)
    for row in counts:
        row[:] = np.bincount(rng.integers(items, size=items), minlength=items)
    return counts


def _p_value(draws_R: np.ndarray) -> float:
    """Twice the smaller share of resamples on one side of 0; never below 2 / (R + 1), the observed sample counted."""
    one_sided = min((draws_R <= 0).sum(), (draws_R >= 0).sum())
    return min(1.0, 2 * (one_sided + 1) / (len(draws_R) + 1))
