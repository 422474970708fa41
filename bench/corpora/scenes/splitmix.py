"""splitmix64, a counter-based random generator: integers only, the same on every machine.

Reference: Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators". The functions run inside
numba kernels.
"""

import numpy as np
from numba import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True)
def mix(x):
    """Output function of splitmix64: uint64, or an array of uint64, to the same."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def below(state, n):
    """The next integer in 0..n-1 of the stream `state` (one uint64, updated in place)."""
    state[0] += GOLDEN
    return np.int64(((mix(state[0]) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True)
def weighted(state, weights):
    """The next index of `weights` (integers), drawn in proportion to them."""
    total = 0
    for w in weights:
        total += w
    r = below(state, total)
    for i in range(len(weights)):
        r -= weights[i]
        if r < 0:
            return i
    return len(weights) - 1
