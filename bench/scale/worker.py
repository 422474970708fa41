"""The jobs of a sweep, each in a process of its own (`bench.store.isolated`): build, truth, postings, accuracy, timing.

`python -m bench.scale.worker JOB FOLDER` reads `request.json` in FOLDER and leaves `result.json` there, arrays beside
it. Compiled packages (numba, an engine's library) are imported by the job that needs them.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from bench.engines.indexes import build_index, check_index, open_checked, open_index
from bench.store.isolated import run_requested
from bench.tasks import timing as measure
from bench.tasks.timing import Timing
from bench.vectors.read import open_vectors
from bench.vectors.statistics import evenly
from models.files import BrokenFileError, atomic_file

# --- jobs: (request, folder) -> result --------------------------------------------------------------------------------


def build(request: dict, folder: Path) -> dict:
    """Builds an index unless it exists: its id, folder, size, and what the build took, where."""
    documents = vectors_of(request["documents"])
    index = build_index(
        request["home"],
        request["engine"],
        documents,
        request["vectors_id"],
        request["threads"],
        request["force"],
        **request["knobs"],
    )
    return {
        "id": index.id,
        "folder": str(index.folder),
        "bytes": index.bytes,
        "seconds": index.seconds,
        "cpu_seconds": index.cpu_seconds,
        "peak_bytes": index.peak_bytes,
        "machine_id": index.machine_id,
    }


def truth(request: dict, folder: Path) -> dict:
    """The best exact scores of some queries, saved as best.npz (Q, depth)."""
    from bench.engines import exact

    best = exact.best_scores(vectors_of(request["documents"]), _queries_of(request["queries"]), request["depth"])
    save_array(folder / "best.npz", best)
    return {}


def postings(request: dict, folder: Path) -> dict:
    """Documents with each lexicon, saved as counts.npz (V,) int64."""
    documents = vectors_of(request["documents"])
    counts = np.zeros(documents.dimension, np.int64)
    for shard in documents.shards():
        counts += np.bincount(shard.indices[shard.data > 0], minlength=documents.dimension)
    save_array(folder / "counts.npz", counts)
    return {}


def accuracy(request: dict, folder: Path) -> dict:
    """Searches all queries at each setting of the search knobs: ids-<i>.npz, scores-<i>.npz (Q, depth), and memory."""
    queries, before = _queries_of(request["queries"]), _resident_bytes()
    with open_index(Path(request["folder"])) as engine:
        for number, knobs in enumerate(request["search"]):
            with measure.pinned(request["threads"]):
                prepared = engine.prepare(queries, **knobs)
                ids, scores = engine.search(prepared, request["depth"], request["threads"], **knobs)
            save_array(folder / f"ids-{number}.npz", ids)
            save_array(folder / f"scores-{number}.npz", scores)
        result = {"resident_bytes": _resident_bytes() - before, "missing": engine.missing_parts()}
        if hasattr(engine, "touched_bytes"):
            result["touched_bytes"] = float(np.mean(engine.touched_bytes(queries)))
    return result


def timing(request: dict, folder: Path) -> dict:
    """One pass in each mode at each setting of the search knobs: rates, and latency-<i>-<j>.npz of single queries.

    And before, while the process is cold: the time to open the index, and that of the first query.
    """
    queries, passes, folder_of_index = _queries_of(request["queries"]), [], Path(request["folder"])
    about = check_index(folder_of_index)  # this project's own work, so not a part of the time to open
    began = time.perf_counter()
    with open_checked(folder_of_index, about) as engine:
        cold = {"open_seconds": time.perf_counter() - began, "first_query_us": _first_query(engine, queries, request)}
        for number, knobs in enumerate(request["search"]):
            single_qps = None
            for place, (mode, threads) in enumerate(request["modes"]):
                chosen = _batch(queries, request, threads, single_qps) if mode == "batched" else queries
                timed = Timing(chosen.shape[0], request["depth"], 1, request["seconds"], threads)
                measured = getattr(measure, mode)(engine, chosen, timed, **knobs)
                if mode == "single":
                    single_qps = measured.values["qps"]
                passes.append(_pass(engine, measured, searches=measured.queries if mode == "single" else 1))
                if measured.latency_us is not None:
                    save_array(folder / f"latency-{number}-{place}.npz", measured.latency_us)
        # An engine that reads every posting is limited by memory bandwidth, so that is measured next to its rate.
        limited = {threads for _, threads in request["modes"]} if hasattr(engine, "touched_bytes") else set()
        missing = engine.missing_parts()
    bandwidth = {threads: _bandwidth(threads) for threads in limited}
    return {"passes": passes, "missing": missing, "bandwidth": bandwidth, "cold": cold}


def _first_query(engine, queries, request: dict) -> float:
    """Microseconds of the first search after opening, with one thread, at the first setting of the search knobs.

    Whatever the engine loads or compiles at its first search is in it. The system may hold the index's files in memory.
    """
    knobs = request["search"][0]
    query = engine.prepare(queries[:1], **knobs)
    with measure.pinned(1):
        began = time.perf_counter_ns()
        engine.search(query, request["depth"], 1, **knobs)
        return (time.perf_counter_ns() - began) / 1000


def _batch(queries, request: dict, threads: int, single_qps: float | None):
    """The queries of a batch: those that the engine answers one by one in `batch_seconds`, at least `min_batch`.

    So an engine that would take a minute for all queries is timed over fewer. All queries when its single rate is
    unknown.
    """
    if not single_qps:
        return queries
    wanted = max(request["min_batch"], int(single_qps * threads * request["batch_seconds"]))
    return queries[evenly(queries.shape[0], wanted)]


def _pass(engine, measured: measure.Measured, searches: int) -> dict:
    return {
        "qps": measured.values["qps"],
        "queries": measured.queries,
        # Where an engine works in another process on this machine, its load would count as that of others.
        "other_cores": 0.0 if engine.remote else measured.other_cores,
        "engine_metrics": engine.search_metrics(searches),
        "remote": engine.remote,
    }


JOBS = {"build": build, "truth": truth, "postings": postings, "accuracy": accuracy, "timing": timing}


# --- what requests and results name -----------------------------------------------------------------------------------


def vectors_of(request: dict):
    """Vectors of a request: `folder`, `count` items of it, and for lexicon vectors `top_k`, `bits`, `scale`."""
    vectors = open_vectors(request["folder"], check=False)  # checked by the command that started this job
    vectors = vectors if request.get("count") is None else vectors.prefix(request["count"])
    if vectors.kind == "dense":
        return vectors
    from bench.vectors.impacts import Impacts

    return Impacts(vectors, request["top_k"], request["bits"], request["scale"])


def _queries_of(request: dict):
    vectors = vectors_of(request)
    rows = vectors.rows(0, vectors.count)
    return rows[np.asarray(request["which"])] if "which" in request else rows


def _bandwidth(threads: int) -> float:
    from bench.scale.bandwidth import memory_bandwidth

    with measure.pinned(threads):
        return memory_bandwidth(threads)


def _resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array whole or not at all, as .npz, which has a checksum."""
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.savez(file, array)


def load_array(path: Path) -> np.ndarray:
    """An array that a job saved. Raises BrokenFileError that names the file."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return saved["arr_0"]
    except Exception as error:  # a changed byte can raise almost any of them
        remedy = f"remove {path.parent} to run its job again"
        raise BrokenFileError(f"{path}: missing, truncated or changed ({error}); {remedy}") from None


def main(job: str, folder: Path) -> None:
    """Runs a job and leaves its result."""
    run_requested(JOBS, job, folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)  # threads of a library, or its Java, must not keep the process alive
