"""How fast an open index answers: latency of single queries, and throughput, each measured by itself.

QPS is queries completed over wall time, never 1 / latency. Threads are pinned for every library in the process (BLAS and OpenMP through
threadpoolctl; engines get their number as an argument) and stated in the record. Queries are brought to the engine's own form before the
clock starts (`Engine.prepare`); encoding a text is measured apart.
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
from bench.store.machine import OtherWork
from bench.tasks import evaluation

WARM_UP_QUERIES = 32


@dataclass(frozen=True)
class Timing:
    """How to measure. A pass ends after `seconds`, so a slow engine answers fewer of the queries; the record says how many."""

    queries: int = 1000  # evenly spaced through the query list
    depth: int = 10  # results per query; the rate depends on it as much as on the engine
    repeats: int = 3
    seconds: float = 2.0
    threads: int = 1


@dataclass(frozen=True)
class Measured:
    """What was measured over the first `queries` of the queries given."""

    values: dict[str, float]  # metric -> value
    queries: int
    latency_us: np.ndarray | None  # (queries,) median of each query's repeats; None for a batch
    ids: np.ndarray  # (queries, depth) what the timed search returned
    note: str
    seconds: float
    other_cores: float = 0.0  # kept busy by other processes meanwhile


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Holds the process on `threads` cores and its thread pools at that number, and the garbage collector off.

    Cores are what no library can get round: one that starts threads of its own shares them. (Linux; elsewhere the pools alone are held.)
    """
    collecting = gc.isenabled()
    gc.disable()
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    try:
        _bind(allowed[:threads])
        with threadpool_limits(limits=threads):
            yield
    finally:
        _bind(allowed)
        if collecting:
            gc.enable()


def _bind(allowed: list[int]) -> None:
    """Every thread that this process has now to these cores; those it starts later follow the one that starts them."""
    if allowed:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), allowed)


def single(engine: Engine, queries, timing: Timing, **knobs) -> Measured:
    """One query at a time: the latency of each, and the rate of a client that waits for each answer before it asks again."""
    prepared = [engine.prepare(queries[i : i + 1], **knobs) for i in range(queries.shape[0])]
    began = time.perf_counter()
    passes, rates, found = [], [], []
    with OtherWork(family=True) as other, pinned(timing.threads):
        for query in prepared[:WARM_UP_QUERIES]:
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
            prepared = prepared[: len(latencies)]  # later passes answer the same queries
    latency_us = np.array(passes, np.float64) / 1000  # (repeats, queries)
    values = {"qps": float(np.median(rates))}
    for share in (50, 95, 99):
        values[f"latency_p{share}_us"] = evaluation.percentile(latency_us.ravel(), share)
    note = _join(
        other.note(),
        _spread(rates),
        f"{len(prepared)} of {queries.shape[0]} queries" if len(prepared) < queries.shape[0] else "",
    )
    seconds = time.perf_counter() - began
    return Measured(
        values, len(prepared), np.median(latency_us, axis=0), np.concatenate(found), note, seconds, other.cores
    )


def batched(engine: Engine, queries, timing: Timing, **knobs) -> Measured:
    """All queries in one call: the rate of an engine that may share work between them, on `timing.threads` threads."""
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
    note, seconds = _join(other.note(), _spread(rates)), time.perf_counter() - began
    return Measured({"qps": float(np.median(rates))}, queries.shape[0], None, ids, note, seconds, other.cores)


def evenly(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` places out of `count`, evenly spaced from the first to the last."""
    return (
        np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))
        if count
        else np.zeros(0, np.int64)
    )


def _spread(rates: list[float]) -> str:
    return f"median of {len(rates)} passes, {min(rates):.4g} to {max(rates):.4g} queries/s"


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
