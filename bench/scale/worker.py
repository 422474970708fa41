"""The jobs that run in a process of their own (`bench.store.isolated`): build an index, search it, find the exact answer, time a part of training.

A job gets `request.json` in its folder and leaves `result.json` there, arrays beside it.
"""

import importlib
import os
import resource
import sys
from pathlib import Path

import numpy as np
import psutil

from bench.engines import exact
from bench.engines.indexes import build_index, open_index
from bench.scale.bandwidth import memory_bandwidth
from bench.store.isolated import REFUSED, end_with
from bench.tasks import timing as measure
from bench.tasks.timing import Timing
from bench.vectors.impacts import Impacts
from bench.vectors.read import open_vectors
from models.errors import AbsentError, InputError
from models.files import REFUSALS, BrokenFileError, atomic_file, read_json, write_json

KIB = 1024


def vectors_of(spec: dict):
    """Vectors as a request names them: a folder, how many of its items, and for lexicon vectors `top_k`, `bits`, `scale`."""
    vectors = open_vectors(spec["folder"], check=False)  # the command that started this job has checked them
    vectors = vectors if spec.get("count") is None else vectors.prefix(spec["count"])
    return vectors if vectors.kind == "dense" else Impacts(vectors, spec["top_k"], spec["bits"], spec["scale"])


def _queries_of(spec: dict):
    vectors = vectors_of(spec)
    everything = vectors.rows(0, vectors.count)
    return everything[np.asarray(spec["which"])] if "which" in spec else everything


def build(request: dict, folder: Path) -> dict:
    """Builds an index unless it is there: its id, folder, bytes, seconds, and the peak memory of the process that built it."""
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    return {
        "id": index.id,
        "folder": str(index.folder),
        "bytes": index.bytes,
        "seconds": index.seconds,
        "cpu_seconds": index.cpu_seconds,
        "peak_bytes": peak,
    }


def truth(request: dict, folder: Path) -> dict:
    """The best exact scores of a sample of queries, saved as best.npz (Q, depth)."""
    best = exact.best_scores(vectors_of(request["documents"]), _queries_of(request["queries"]), request["depth"])
    _save(folder / "best.npz", best)
    return {}


def accuracy(request: dict, folder: Path) -> dict:
    """All queries at each setting of the search knobs: ids-<i>.npz (Q, depth); and memory after loading."""
    queries, before = _queries_of(request["queries"]), _resident()
    with open_index(Path(request["folder"])) as engine:
        for number, knobs in enumerate(request["search"]):
            with measure.pinned(request["threads"]):
                ids, _ = engine.search(engine.prepare(queries, **knobs), request["depth"], request["threads"], **knobs)
            _save(folder / f"ids-{number}.npz", ids)
        return {"resident_bytes": _resident() - before, "missing": engine.what_is_missing()} | _touched(engine, queries)


def timing(request: dict, folder: Path) -> dict:
    """One pass in each mode at each setting of the search knobs: rates, and latency-<i>-<j>.npz of single queries.

    A batch holds as many queries as the engine would answer one by one in `batch_seconds`, at least `least_batch`: an engine that takes a
    minute for all of them is timed over fewer.
    """
    queries, passes = _queries_of(request["queries"]), []
    with open_index(Path(request["folder"])) as engine:
        for number, knobs in enumerate(request["search"]):
            one_by_one = None
            for place, (mode, threads) in enumerate(request["modes"]):
                asked = queries
                if mode == "batched" and one_by_one:
                    wanted = max(request["least_batch"], int(one_by_one * threads * request["batch_seconds"]))
                    asked = queries[measure.evenly(queries.shape[0], wanted)]
                timed = Timing(asked.shape[0], request["depth"], 1, request["seconds"], threads)
                measured = getattr(measure, mode)(engine, asked, timed, **knobs)
                if mode == "single":
                    one_by_one = measured.values["qps"]
                told = engine.told(measured.queries if mode == "single" else 1)
                other = (
                    0.0 if engine.elsewhere else measured.other_cores
                )  # work done elsewhere on this machine would count
                passes.append(
                    {
                        "qps": measured.values["qps"],
                        "queries": measured.queries,
                        "other_cores": other,
                        "told": told,
                        "elsewhere": engine.elsewhere,
                    }
                )
                if measured.latency_us is not None:
                    _save(folder / f"latency-{number}-{place}.npz", measured.latency_us)
        limited = hasattr(engine, "touched_bytes")  # by how fast memory is read, which is then measured beside
        missing = engine.what_is_missing()
    return {
        "passes": passes,
        "missing": missing,
        "bandwidth": {
            threads: _bandwidth(threads) for threads in {threads for _, threads in request["modes"] if limited}
        },
    }


def _bandwidth(threads: int) -> float:
    with measure.pinned(threads):
        return memory_bandwidth(threads)


def _touched(engine, queries) -> dict:
    return {"touched_bytes": float(np.mean(engine.touched_bytes(queries)))} if hasattr(engine, "touched_bytes") else {}


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.savez(file, array)  # with a checksum, which a .npy file has not


def load(path: Path) -> np.ndarray:
    """An array that a job left. Raises BrokenFileError that names the file."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return saved["arr_0"]
    except Exception as error:  # a changed byte comes up as almost any of them
        raise BrokenFileError(
            f"{path}: missing, truncated or changed ({error}); remove {path.parent} to run its job again"
        ) from None


def _part(module: str):
    """The job of a part of training (`bench.tasks.parts.parts`); with torch, which the other jobs do without."""
    return lambda request, folder: importlib.import_module(module).measure(request)


JOBS = {
    "build": build,
    "truth": truth,
    "accuracy": accuracy,
    "timing": timing,
    "lexicon_head": _part("bench.tasks.parts.lexicon_head"),
    "key_queue": _part("bench.tasks.parts.key_queue"),
}


def main(job: str, folder: Path) -> None:
    """Runs a job and leaves its answer; what is not foreseen keeps its traceback, in the folder's stderr.txt."""
    status, note, result = "ok", "", {}
    request = read_json(folder / "request.json")
    end_with(request["parent"])
    try:
        result = JOBS[job](request, folder)
        if missing := result.pop("missing", ""):
            status, note = "failed", f"partial: {missing}"
    except BrokenFileError as error:
        status, note = REFUSED, str(error)
    except AbsentError as error:
        status, note = "absent", str(error)
    except InputError as error:
        status, note = "failed", str(error)
    except MemoryError as error:
        status, note = "out_of_memory", str(error) or "no memory left"
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        status, note = REFUSED, str(error)
    write_json(folder / "result.json", {"status": status, "note": note, "result": result})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)  # a library's threads or its Java must not keep the process
