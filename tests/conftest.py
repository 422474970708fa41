"""Settings of all tests: properties are tried without a time limit, and in CI with the same examples each time."""

import os

from hypothesis import settings

pytest_plugins = ["tests.reliability"]
settings.register_profile("here", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "here")


LONGEST = ("test_smoke.py", "test_sweep.py", "test_train.py", "test_distributed.py", "test_max_linear_triton.py")


def pytest_collection_modifyitems(items):
    """The files that take longest first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
