"""Holm's correction by hand and against scipy's false discovery control as a bound."""

import numpy as np
import pytest
from scipy import stats

from reports.statistics import corrections


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.02, 0.9], [0.04, 0.06, 0.06, 0.9]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_by_hand(p_values, adjusted):
    assert corrections.holm(p_values) == pytest.approx(adjusted)


def test_between_benjamini_hochberg_and_bonferroni():
    p_values = np.random.default_rng(3).uniform(size=200) ** 4
    found = corrections.holm(p_values)
    assert (found >= stats.false_discovery_control(p_values) - 1e-12).all()
    assert (found <= np.minimum(1, len(p_values) * p_values) + 1e-12).all()
    assert (np.diff(found[np.argsort(p_values)]) >= 0).all(), "the order is kept"
