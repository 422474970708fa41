"""How fast this machine reads memory: the physical limit of an engine that has to read all postings of a query."""

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

ARRAY_BYTES = 2**30  # several times the last-level cache of most machines, twice that of the largest
PASSES = 7


def memory_bandwidth(threads: int = 1) -> float:
    """Bytes a second at which `threads` threads together read an array of 1 GiB, each a part of it: the median of some passes.

    Takes half a second. Call it with as many cores as threads. The trap: in a virtual machine it shares the memory bus with others, so it
    is to be measured beside the rate that it is compared with.
    """
    parts = np.array_split(
        np.ones(ARRAY_BYTES // 8, np.uint64), threads
    )  # ones: pages of zeros would all be the same page
    rates = []
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_sum, [part[:1] for part in parts]))  # compiles, and starts the threads
        for _ in range(PASSES):
            start = time.perf_counter()
            list(pool.map(_sum, parts))
            rates.append(ARRAY_BYTES / (time.perf_counter() - start))
    return float(np.median(rates))


@numba.njit(cache=True, nogil=True)
def _sum(values):
    total = np.uint64(0)
    for value in values:
        total += value
    return total
