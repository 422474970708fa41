"""Vectors to search."""

import numpy as np
import pytest
import scipy.sparse as sp

from tests.cluster.nodes import ITEMS, LEXICONS


@pytest.fixture(scope="session")
def rows():
    """Weights of 1 to 4, so that many scores tie; every item occurs three times, also across shards."""
    rng = np.random.default_rng(0)
    made = sp.random_array((ITEMS // 3, LEXICONS), density=0.2, random_state=rng, dtype=np.float32, format="csr")
    made.data = np.ceil(made.data * 4)
    return sp.csr_array(sp.vstack([made] * 3, format="csr"))
