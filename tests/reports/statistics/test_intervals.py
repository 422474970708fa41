"""Intervals and tests over seeds and images, against scipy and by hand."""

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


def of_seeds(values_SG) -> pd.DataFrame:
    return pd.concat([outcomes(values, seed=float(seed)) for seed, values in enumerate(np.asarray(values_SG))])


def test_one_seed_is_a_t_interval_over_images():
    values = np.random.default_rng(1).normal(0.3, 2, 40)
    estimate = intervals.mean(outcomes(values))
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.p is None, "one training says nothing about another"


def test_images_that_do_not_vary_leave_a_t_test_over_seeds():
    means = np.array([0.5, 0.56, 0.47])
    estimate = intervals.mean(of_seeds(np.repeat(means[:, None], 30, axis=1)))
    expected = stats.ttest_1samp(means, 0)
    bounds = expected.confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((bounds.low, bounds.high))
    assert (estimate.p, estimate.share) == (pytest.approx(expected.pvalue), 1)


def test_seeds_share_their_images():
    """The same outcomes under three seeds say no more about images than one seed does."""
    values = (np.random.default_rng(4).random(300) < 0.4).astype(float)
    one, three = intervals.mean(outcomes(values)), intervals.mean(of_seeds([values] * 3))
    assert (three.low, three.high, three.share) == pytest.approx((one.low, one.high, 0))


def test_two_seeds_and_two_images_by_hand():
    """Seed means 2 and 3: variance 0.5 / 2. Images 1 and 4 differ by 3: variance 4.5 / 2; the rest 0.5, over 4."""
    estimate = intervals.mean(of_seeds([[0, 4], [2, 4]]))
    of_seeds_, of_images = 0.25, 2.25 - 0.25
    error = np.sqrt(of_seeds_ + of_images)
    assert (estimate.value, estimate.error) == (2.5, pytest.approx(error))
    assert estimate.share == pytest.approx(of_seeds_ / (of_seeds_ + of_images))
    assert estimate.high - 2.5 == pytest.approx(12.7062 * error, rel=1e-5), "both have one degree of freedom"


def test_critical_value_weighs_seeds_and_images():
    estimate = intervals.Estimate(1.0, 0.0, 2.0, 0.1, queries=50, groups=11, seeds=4, share=0.25)
    assert estimate.critical(0.05) == pytest.approx(0.25 * stats.t.ppf(0.975, 3) + 0.75 * stats.t.ppf(0.975, 10))
    assert estimate.critical(estimate.p) == pytest.approx(10), "the p-value is the level at which 1.0 is just found"


def test_interval_of_groups_is_wider_than_of_captions_when_captions_agree():
    rng = np.random.default_rng(3)
    per_image = (rng.random(100) < 0.5).astype(float)
    together = intervals.mean(outcomes(np.repeat(per_image, 5), np.repeat(np.arange(100), 5)))
    apart = intervals.mean(outcomes(np.repeat(per_image, 5)))
    # Five captions that always agree are one observation: the interval is sqrt(5) as wide.
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(5), rel=0.02)


def test_images_with_more_captions_weigh_more():
    values, groups = [1, 1, 1, 0], ["a", "a", "a", "b"]
    estimate = intervals.mean(outcomes(values, groups))
    # Ratio of sums: residuals 3 - 0.75 * 3 and 0 - 0.75, over four captions.
    assert (estimate.value, estimate.error) == (0.75, pytest.approx(np.sqrt(2 * (0.75**2 + 0.75**2)) / 4))


def test_bounds_of_a_share_stay_between_0_and_1():
    estimate = intervals.mean(outcomes([0, 0, 0, 0, 1]))
    assert estimate.low == 0 < estimate.high < 1
    assert intervals.mean(of_seeds([[1, 1, 0, 1], [0, 1, 0, 1]])).high == 1
    assert intervals.mean(outcomes([0, 0, 0, 0, 9])).low < 0, "no share"


def test_difference_pairs_queries():
    rng = np.random.default_rng(5)
    hard = (rng.random(400) < 0.5).astype(float)
    better = np.maximum(hard, np.arange(400) < 12)  # the same hits and a few more
    estimate = intervals.difference(outcomes(better), outcomes(hard))
    assert estimate.value == pytest.approx((better - hard).mean())
    assert estimate.low > 0  # clear when paired, although each mean alone is uncertain by 5 points


def test_difference_uses_only_shared_queries_and_seeds():
    a, b = outcomes([1, 1, 0, 1]), outcomes([1, 0, 0, 0]).iloc[:3]
    assert intervals.difference(a, b).value == pytest.approx(1 / 3)
    assert intervals.difference(a, b.assign(seed=7.0)) is None


def test_an_untrained_baseline_is_paired_with_every_seed():
    baseline = outcomes([1, 0, 1], seed=float(intervals.UNSEEDED))
    estimate = intervals.difference(baseline, of_seeds([[0, 0, 0], [1, 0, 1], [1, 1, 1]]))
    assert (estimate.value, estimate.seeds) == (pytest.approx((2 + 0 - 1) / 9), 3)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_not_tested(seeds):
    estimate = intervals.mean(of_seeds(np.ones((seeds, 20)) + np.arange(20)))
    assert (estimate.p, estimate.detectable(0.05), estimate.is_tested) == (None, None, False)


def test_no_difference_has_p_1_and_an_interval_of_0():
    same = of_seeds([[0, 1, 1, 0, 1]] * 3)
    estimate = intervals.difference(same, same)
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)


def test_a_larger_difference_has_a_smaller_p():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.1, (5, 200)) + rng.normal(0, 0.01, (5, 1))
    found = [intervals.mean(of_seeds(noise + shift)).p for shift in (0.0, 0.02, 0.05, 0.3)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-4


def test_one_group_has_no_interval_and_nothing_has_no_estimate():
    estimate = intervals.mean(outcomes([1, 0], groups=["x", "x"]))
    assert (estimate.value, estimate.low, estimate.p) == (0.5, None, None)
    assert intervals.mean(outcomes([])) is None
    assert intervals.mean(outcomes([np.nan, 1.0, 0.0])).queries == 2
