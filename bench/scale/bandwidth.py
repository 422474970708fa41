"""Memory bandwidth of this machine: the upper limit of an engine that reads every posting of a query."""

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

ARRAY_BYTES = 2**30  # twice the largest last-level caches, so that reads come from memory
PASSES = 7


def memory_bandwidth(threads: int = 1) -> float:
    """Bytes per second at which `threads` threads together read an array of 1 GiB: the median of `PASSES` passes.

    Takes half a second; needs as many cores as threads. The trap: a virtual machine shares the memory bus with others,
    so measure it next to the rate that it is compared with.
    """
    values = np.ones(ARRAY_BYTES // 8, np.uint64)  # not zeros, whose pages may all map to one page of memory
    parts = np.array_split(values, threads)
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
