"""The sign-flip test against scipy and every swap by hand; false alarms counted."""

import itertools

import numpy as np
import pytest
from scipy import stats

from reports.statistics import corrections, sign_flip

LEVEL = 0.05


def test_single_queries_are_mcnemar():
    gained, lost = 31, 14
    differences = np.repeat([1.0, -1.0, 0.0], [gained, lost, 400])
    assert sign_flip.p_value(differences) == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-9)


def test_groups_against_every_swap():
    differences = np.array([3.0, -1.0, 2.0, 2.0, -5.0, 4.0, 1.0, 0.0, 3.0])
    sums = [np.dot(signs, differences) for signs in itertools.product((1, -1), repeat=len(differences))]
    by_hand = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)
    assert sign_flip.p_value(differences) == pytest.approx(by_hand, rel=1e-9)
    theirs = stats.permutation_test(
        (differences, np.zeros(len(differences))),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_flip.p_value(differences) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_shares_of_relevant_items_count_as_they_are():
    fifths, wholes = np.array([0.2, -0.4, 0.6, 0.6, 0.2]), np.array([1, -2, 3, 3, 1])
    assert sign_flip.p_value(fifths) == sign_flip.p_value(wholes)


def test_nothing_differs_and_all_differ():
    assert sign_flip.p_value(np.zeros(9)) is None
    assert sign_flip.p_value(np.ones(200)) == pytest.approx(2 * 0.5**200)
    assert sign_flip.p_value(np.array([1.0, -1.0])) == 1.0


def _simulated(rng, comparisons: int, images: int = 60, captions: int = 5):
    """(comparisons, images) differences of two draws of the same model, whose captions of an image succeed together."""
    chance = np.clip(rng.normal(0.5, 0.35, (comparisons, images)), 0, 1)
    return rng.binomial(captions, chance) - rng.binomial(captions, chance)


def test_identical_models_raise_no_more_false_alarms_than_the_level():
    """200 reports of 40 comparisons of identical models; Holm rejects one only if the smallest p passes Bonferroni."""
    rng, reports = np.random.default_rng(11), 200
    alarms = 0
    for _ in range(reports):
        p_values = [p for row in _simulated(rng, 40) if (p := sign_flip.p_value(row)) is not None]
        alarms += min(p_values) * len(p_values) < LEVEL
    assert alarms <= stats.binom.ppf(0.999, reports, LEVEL)


def test_captions_taken_one_by_one_would_raise_them():
    """McNemar over captions would count five that succeed together as five observations."""
    rng, reports, alarms = np.random.default_rng(12), 300, 0
    for _ in range(reports):
        a, b = (np.repeat(rng.random(60) < 0.5, 5) for _ in range(2))
        gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
        alarms += stats.binomtest(gained, gained + lost).pvalue < LEVEL
    assert alarms > stats.binom.ppf(0.999, reports, LEVEL)


def test_a_real_loss_stands_among_many_comparisons():
    rng = np.random.default_rng(13)
    p_values = [sign_flip.p_value(row) for row in _simulated(rng, 299)]
    a, b = rng.binomial(5, 0.8, 60), rng.binomial(5, 0.5, 60)
    p_values.append(sign_flip.p_value(b - a))
    corrected = corrections.holm(p_values)
    assert corrected[-1] < LEVEL
    assert (corrected[:-1] >= LEVEL).all()
