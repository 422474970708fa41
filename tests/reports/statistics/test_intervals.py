"""Bootstrap intervals against scipy, analytic cases and hand-computed ones."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.statistics import intervals


def outcomes(values, groups=None, seed=0.0) -> pd.DataFrame:
    values = np.asarray(values, float)
    groups = np.arange(len(values)) if groups is None else groups
    return pd.DataFrame(
        {"seed": seed, "query_id": [f"q{i}" for i in range(len(values))], "group": groups, "outcome": values}
    )


def test_interval_agrees_with_scipy_bootstrap_over_groups():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), 5)
    values = (rng.random(1000) < 0.3 + 0.4 * (rng.random(200) < 0.5)[groups]).astype(float)
    ours = intervals.mean(outcomes(values, groups))
    sums, counts = values.reshape(200, 5).sum(1), np.full(200, 5)
    ratio = lambda sums, counts, axis=-1: sums.sum(axis) / counts.sum(axis)  # noqa: E731
    theirs = stats.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(2),
    )
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.003)


def test_interval_of_groups_is_wider_than_of_captions_when_captions_agree():
    rng = np.random.default_rng(3)
    per_image = (rng.random(100) < 0.5).astype(float)
    together = intervals.mean(outcomes(np.repeat(per_image, 5), np.repeat(np.arange(100), 5)))
    apart = intervals.mean(outcomes(np.repeat(per_image, 5)))
    # Five captions that always agree are one observation: the interval is sqrt(5) as wide.
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(5), rel=0.08)


def test_interval_of_a_share_agrees_with_the_normal_approximation():
    values = np.repeat([1.0, 0.0], [400, 600])
    estimate = intervals.mean(outcomes(values))
    half = 1.96 * np.sqrt(0.4 * 0.6 / 1000)
    assert (estimate.low, estimate.high) == pytest.approx((0.4 - half, 0.4 + half), abs=0.003)


def test_seeds_are_resampled_too():
    """The interval of two opposite seeds reaches from one to the other, whatever the number of images."""
    both = pd.concat([outcomes(np.zeros(500), seed=0.0), outcomes(np.ones(500), seed=1.0)])
    estimate = intervals.mean(both)
    assert (estimate.value, estimate.low, estimate.high, estimate.seeds) == (0.5, 0.0, 1.0, 2)


def test_seeds_share_their_images():
    """The same outcomes under three seeds say no more about images than one seed does."""
    values = (np.random.default_rng(4).random(300) < 0.4).astype(float)
    one = intervals.mean(outcomes(values))
    three = intervals.mean(pd.concat([outcomes(values, seed=float(seed)) for seed in range(3)]))
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1e-6)


def test_difference_pairs_queries():
    rng = np.random.default_rng(5)
    hard = (rng.random(400) < 0.5).astype(float)
    better = np.maximum(hard, np.arange(400) < 12)  # the same hits and a few more
    estimate = intervals.difference(outcomes(better), outcomes(hard))
    assert estimate.value == pytest.approx((better - hard).mean())
    assert estimate.low > 0  # clear when paired, although each mean alone is uncertain by 5 points
    assert estimate.p < 0.05


def test_difference_uses_only_shared_queries_and_seeds():
    a, b = outcomes([1, 1, 0, 1]), outcomes([1, 0, 0, 0]).iloc[:3]
    assert intervals.difference(a, b).value == pytest.approx(1 / 3)
    assert intervals.difference(a, b.assign(seed=7.0)) is None


def test_no_difference_has_p_1_and_an_interval_of_0():
    same = outcomes([0, 1, 1, 0, 1])
    estimate = intervals.difference(same, same)
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)


def test_p_value_agrees_with_a_t_test():
    values = np.random.default_rng(6).normal(0.06, 1, 1000)
    assert intervals.mean(outcomes(values)).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_one_group_has_no_interval_and_nothing_has_no_estimate():
    estimate = intervals.mean(outcomes([1, 0], groups=["x", "x"]))
    assert (estimate.value, estimate.low, estimate.p) == (0.5, None, None)
    assert intervals.mean(outcomes([])) is None
    assert intervals.mean(outcomes([np.nan, 1.0, 0.0])).queries == 2
