"""Speed of an open index: latency of single queries and throughput of a batch, measured separately.

QPS is queries completed over wall time, never 1 / latency. Threads are pinned for every library in the process (BLAS
and OpenMP through threadpoolctl; engines take their number as an argument) and stated in the record. Queries are
converted to the engine's own form before the clock starts (`Engine.prepare`). Query encoding is not included.

Single queries are timed in a fixed pseudo-random order, the same for every engine, and the warm-up runs those at its
end. So the queries that a slow engine reaches are a sample of all, and were not searched just before.
"""

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from bench.engines import Engine
from bench.store.machine import OtherWork, by_physical_core, threads_note
from bench.tasks import evaluation

WARM_UP_QUERIES = 32
SEED = 20230202  # of the order of single queries


@dataclass(frozen=True)
class Timing:
    """Options of a timed search. The first pass ends after `seconds`; the record states how many queries it ran."""

    queries: int = 1000  # evenly spaced through the query list
    depth: int = 10  # results per query; the rate depends on it as much as on the engine
    repeats: int = 3
    seconds: float = 2.0
    threads: int = 1


@dataclass(frozen=True)
class Measured:
    """Result over `queries` of the given queries."""

    values: dict[str, float]  # metric -> value
    queries: int
    which: np.ndarray  # (queries,) int64 places of these among the given queries, in the order of the next two
    latency_us: np.ndarray | None  # (queries,) median over the repeats; None for a batch
    ids: np.ndarray  # (queries, depth) int64, results of the timed search
    note: str
    seconds: float
    other_cores: float = 0.0  # cores used by other processes at the same time


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Binds the process to `threads` cores, limits its thread pools to that number and disables garbage collection.

    Each core is another physical core, as far as there are enough. No library can bypass the binding: threads that it
    starts share the cores. Not on Linux: only the pools are limited.
    """
    collecting = gc.isenabled()
    gc.disable()
    allowed = _allowed()
    try:
        _bind(by_physical_core(allowed)[:threads])
        with threadpool_limits(limits=threads):
            yield
    finally:
        _bind(allowed)
        if collecting:
            gc.enable()


def _allowed() -> list[int]:
    """Logical cores of this process, ascending; empty where they cannot be chosen."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


def cores_note(threads: int) -> str:
    """On how many physical cores `pinned` runs several threads, for the record; "" if unknown."""
    return threads_note(threads, _allowed())


def _bind(allowed: list[int]) -> None:
    """Binds all current threads of this process to these cores; threads started later inherit the binding."""
    if allowed:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), allowed)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Limits torch's own threads, which are not among the pools that `pinned` limits.

    Two of them wait for each other after every operation: on a busy machine, small operations then take seconds.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed_order(count: int) -> np.ndarray:
    """(count,) int64: places of the queries in the order in which single queries are timed."""
    return np.random.default_rng(SEED).permutation(count)


def single(engine: Engine, queries, timing: Timing, **knobs) -> Measured:
    """One query at a time: the latency of each, and the rate of a client that waits for each result."""
    order = timed_order(queries.shape[0])
    prepared = [engine.prepare(queries[i : i + 1], **knobs) for i in order]
    began = time.perf_counter()
    passes, rates, found = [], [], []
    with OtherWork(family=True) as other, pinned(timing.threads):
        for query in prepared[-WARM_UP_QUERIES:]:
            engine.search(query, timing.depth, timing.threads, **knobs)
        for _ in range(timing.repeats):
            latencies, found = [], []
            start = before = time.perf_counter_ns()
            for query in prepared:
                found.append(engine.search(query, timing.depth, timing.threads, **knobs)[0])
                after = time.perf_counter_ns()
                latencies.append(after - before)
                before = after
                if not passes and after - start > timing.seconds * 1e9:
                    break
            rates.append(len(latencies) / ((before - start) / 1e9))
            passes.append(latencies)
            prepared = prepared[: len(latencies)]  # later passes run the same queries
    latency_us = np.array(passes, np.float64) / 1000  # (repeats, queries)
    values = {"qps": float(np.median(rates))}
    for share in (50, 95, 99):
        values[f"latency_p{share}_us"] = evaluation.percentile(latency_us.ravel(), share)
    answered = f"{len(prepared)} of {queries.shape[0]} queries"
    notes = other.note(), _spread(rates), answered, cores_note(timing.threads)
    note, seconds = _join(*notes), time.perf_counter() - began
    medians, ids = np.median(latency_us, axis=0), np.concatenate(found)
    return Measured(values, len(prepared), order[: len(prepared)], medians, ids, note, seconds, other.cores)


def batched(engine: Engine, queries, timing: Timing, **knobs) -> Measured:
    """All queries in one call, on `timing.threads` threads: the rate of an engine that may share work between them."""
    prepared = engine.prepare(queries, **knobs)
    began = time.perf_counter()
    rates = []
    with OtherWork(family=True) as other, pinned(timing.threads):
        engine.search(engine.prepare(queries[:WARM_UP_QUERIES], **knobs), timing.depth, timing.threads, **knobs)
        for _ in range(timing.repeats):
            start = time.perf_counter()
            ids, _ = engine.search(prepared, timing.depth, timing.threads, **knobs)
            rates.append(queries.shape[0] / (time.perf_counter() - start))
            if time.perf_counter() - began > timing.repeats * timing.seconds:
                break
    note, seconds = _join(other.note(), _spread(rates), cores_note(timing.threads)), time.perf_counter() - began
    values, which = {"qps": float(np.median(rates))}, np.arange(queries.shape[0])
    return Measured(values, len(which), which, None, ids, note, seconds, other.cores)


def _spread(rates: list[float]) -> str:
    return f"median of {len(rates)} passes, {min(rates):.4g} to {max(rates):.4g} queries/s"


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
