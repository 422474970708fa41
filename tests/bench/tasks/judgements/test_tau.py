"""Kendall's tau by hand, and the outcomes of images: their mean is tau, their bootstrap that of tau."""

import numpy as np
import pytest

from bench.tasks.judgements.tau import agreement, outcomes, tau, untied

# Scores and grades of four pairs. Of the 6 pairs of pairs, 1-2, 1-3, 1-4 and 2-4 are concordant, 2-3 is discordant
# (0.4 > 0.3, but 2 < 3), and 3-4 have equal grades: C - D = 4 - 1 = 3.
SCORES, GRADES = np.array([0.1, 0.4, 0.3, 0.9]), np.array([1.0, 2, 3, 3])
TAU_C = 2 * 3 / (4**2 * (3 - 1) / 3)  # n = 4 and m = 3 grades: 0.5625
TAU_B = 3 / (6 * 5) ** 0.5  # all 6 pairs differ in score, 5 in grade


@pytest.mark.parametrize(("variant", "by_hand"), [("c", TAU_C), ("b", TAU_B)])
def test_tau_by_hand(variant, by_hand):
    assert tau(SCORES, GRADES, variant) == pytest.approx(by_hand)
    assert outcomes(SCORES, GRADES, np.arange(4), variant).mean() == pytest.approx(by_hand)
    assert tau(-SCORES, GRADES, variant) == pytest.approx(-by_hand)


def test_counts_by_hand():
    assert agreement(SCORES, GRADES).tolist() == [3, 1, 0, 2]  # pair 2: with 1 and 4, against 3; pair 3: with 1 only
    assert untied(GRADES).tolist() == [3, 3, 2, 2]


def test_each_grade_of_a_pair_is_a_sample():
    """Pair A scores 0.2 with grades 1, 1, 2; pair B scores 0.5 with grades 2, 3, 3.

    Samples of one pair tie in score. Of 3 x 3 pairs across, A's 2 ties with B's 2; the other 8 are concordant.
    n = 6, and m = 2 scores: tau-c = 2 x 8 / (36 / 2) = 8 / 9.
    """
    scores, grades = np.repeat([0.2, 0.5], 3), np.array([1.0, 1, 2, 2, 3, 3])
    assert tau(scores, grades, "c") == pytest.approx(8 / 9)
    assert outcomes(scores, grades, np.repeat([0, 1], 3), "c").mean() == pytest.approx(8 / 9)


def with_ties(images=80, pairs=5):
    rng = np.random.default_rng(5)
    of_image = np.repeat(np.arange(images), pairs)
    luck = rng.normal(size=images)[of_image]
    grades = np.clip(np.round(rng.normal(2, 1, len(of_image)) + 0.5 * luck), 1, 4)
    return np.round(grades + rng.normal(0, 2, len(of_image)) + luck, 1), grades, of_image


@pytest.mark.parametrize("variant", ["b", "c"])
def test_an_outcome_is_tau_plus_the_influence_of_its_image(variant):
    """Against the change of tau when one image is drawn 41 times and every other one 40 times."""
    scores, grades, of_image = with_ties(20, 4)
    found, times = outcomes(scores, grades, of_image, variant), 40
    value = tau(scores, grades, variant)
    assert found.mean() == pytest.approx(value)
    for image in range(20):
        drawn = np.repeat(np.arange(len(scores)), times + (of_image == image))
        change = (tau(scores[drawn], grades[drawn], variant) - value) * times
        assert found[image] == pytest.approx(value + 20 * change, abs=0.03)


@pytest.mark.parametrize("variant", ["b", "c"])
def test_the_bootstrap_of_the_outcomes_is_that_of_tau(variant):
    scores, grades, of_image = with_ties()
    found, rng, exact, first_order = outcomes(scores, grades, of_image, variant), np.random.default_rng(1), [], []
    for _ in range(400):
        drawn = rng.integers(80, size=80)
        rows = (drawn[:, None] * 5 + np.arange(5)).ravel()
        exact.append(tau(scores[rows], grades[rows], variant))
        first_order.append(found[drawn].mean())
    assert np.std(first_order) == pytest.approx(np.std(exact), rel=0.05)
    assert np.corrcoef(exact, first_order)[0, 1] > 0.99


@pytest.mark.parametrize("variant", ["b", "c"])
@pytest.mark.parametrize("equal", ["scores", "grades"])
def test_tau_is_undefined_where_all_are_equal(variant, equal):
    given = {"scores": SCORES, "grades": GRADES, equal: np.ones(4)}
    assert np.isnan(tau(*given.values(), variant))
    assert np.isnan(outcomes(*given.values(), np.arange(4), variant)).all()
