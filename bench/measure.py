"""How fast an open index answers: latency of single queries, and throughput, each measured by itself.

QPS is queries completed over wall time, never 1 / latency. Threads are pinned for every library in the process (BLAS and OpenMP through
threadpoolctl; engines get their number as an argument) and stated in the record. Queries are brought to the engine's own form before the
clock starts (`Engine.prepare`); encoding a text is measured apart.
"""

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from bench import metrics
from bench.engines import Engine
from bench.environment import load_note

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


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Holds every thread pool of the process at `threads`, and the garbage collector off."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        if collecting:
            gc.enable()


def single(engine: Engine, queries, timing: Timing, **knobs) -> Measured:
    """One query at a time: the latency of each, and the rate of a client that waits for each answer before it asks again."""
    prepared = [engine.prepare(queries[i : i + 1], **knobs) for i in range(queries.shape[0])]
    began, note = time.perf_counter(), load_note()
    passes, rates, found = [], [], []
    with pinned(timing.threads):
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
        values[f"latency_p{share}_us"] = metrics.percentile(latency_us.ravel(), share)
    note = _join(note, _spread(rates), f"{len(prepared)} of {queries.shape[0]} queries" if len(prepared) < queries.shape[0] else "")
    return Measured(values, len(prepared), np.median(latency_us, axis=0), np.concatenate(found), note, time.perf_counter() - began)


def batched(engine: Engine, queries, timing: Timing, **knobs) -> Measured:
    """All queries in one call: the rate of an engine that may share work between them, on `timing.threads` threads."""
    prepared = engine.prepare(queries, **knobs)
    began, note = time.perf_counter(), load_note()
    rates = []
    with pinned(timing.threads):
        engine.search(engine.prepare(queries[:WARM_UP_QUERIES], **knobs), timing.depth, timing.threads, **knobs)
        for _ in range(timing.repeats):
            start = time.perf_counter()
            ids, _ = engine.search(prepared, timing.depth, timing.threads, **knobs)
            rates.append(queries.shape[0] / (time.perf_counter() - start))
            if time.perf_counter() - began > timing.repeats * timing.seconds:
                break
    return Measured({"qps": float(np.median(rates))}, queries.shape[0], None, ids, _join(note, _spread(rates)), time.perf_counter() - began)


def evenly(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` places out of `count`, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64)) if count else np.zeros(0, np.int64)


def _spread(rates: list[float]) -> str:
    return f"median of {len(rates)} passes, {min(rates):.4g} to {max(rates):.4g} queries/s"


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
