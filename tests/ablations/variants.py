"""The variants that tests take one by one."""

import pytest

from ablations import config as configs

STRENGTHS = ("_weak", "_strong")  # sparsifiers that differ from their `_medium` in a number only
VARIANTS = [
    pytest.param(name, marks=pytest.mark.nightly) if name.endswith(STRENGTHS) else name
    for name in configs.names("variants")
]
