"""Indexes on disk: built once, reused by id (a hash of vectors, engine, knobs and code), refused when a file is broken.

Items are indexed in a fixed pseudo-random order (`bench.engines.shuffled`), so that equal scores favour none. Results
hold the row numbers of the vectors. Indexes of older versions, in the order of the vectors, can still be opened.

`check_index` reads every file once and compares its CRC-32, outside of any timed work; `open_checked` then opens it.
Mapped files are then in the page cache for all engines alike.
"""

import functools
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.engines import registry
from bench.engines.contract import NO_RESULT, Engine, index_files
from bench.engines.shuffled import ORDER, order, shuffled
from bench.store import config
from bench.store.machine import machine
from bench.vectors.scales import check_scale
from models.files import BrokenFileError, atomic_folder, crc32, read_json, write_json

log = logging.getLogger(__name__)
WARM_UP_ITEMS = 64
PROCESS = Path("/proc/self/status")
"""State of this process on Linux."""


@dataclass(frozen=True)
class Index:
    """A complete index.

    bytes: size of its files; None when a server holds it and reports no size. seconds, cpu_seconds: time of the build,
    including reading, pruning and quantising the vectors. peak_bytes: peak resident memory of the process that built
    it, or of a process that this one started, if larger. machine_id: where it was built. The last two are None for
    indexes of older versions.
    """

    id: str
    folder: Path
    engine: str
    bytes: int | None
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None = None
    machine_id: str | None = None

    def open(self) -> "Engine | Reordered":
        """As `open_index`."""
        return open_index(self.folder)


def open_index(folder: Path) -> "Engine | Reordered":
    """The engine of an index, ready for search. Raises BrokenFileError if a file is missing, truncated or changed."""
    return open_checked(folder, check_index(folder))


def check_index(folder: Path) -> dict:
    """Compares all files of an index with their checksums and returns `index.json`. Raises BrokenFileError."""
    folder = Path(folder)
    about, remedy = read_json(folder / "index.json", _remedy(folder)), _remedy(folder)
    for name, written in about["files"].items():
        path = folder / name
        size = path.stat().st_size if path.exists() else None
        if size != written["bytes"]:
            found = "missing" if size is None else f"{size} bytes"
            raise BrokenFileError(f"{path}: {found}, expected {written['bytes']} bytes; {remedy}")
        if crc32(path) != written["crc32"]:
            raise BrokenFileError(f"{path}: changed since it was written (its CRC-32 differs); {remedy}")
    return about


def open_checked(folder: Path, about: dict) -> "Engine | Reordered":
    """The engine of an index that `check_index` has read. about: its result."""
    engine = registry.get(about["made_from"]["engine"]).open(Path(folder))
    return Reordered(engine, about["count"]) if about["made_from"].get("order") else engine


class Reordered:
    """An open engine whose items were shuffled before it was built; results are row numbers of the vectors.

    Everything but the ids is the engine's own.
    """

    def __init__(self, engine: Engine, count: int):
        self.engine = engine
        self.items = np.append(order(count), NO_RESULT)  # the last is that of padding, -1

    def search(self, queries, k: int, threads: int = 1, **knobs) -> tuple[np.ndarray, np.ndarray]:
        """As `Engine.search`; items of equal score are in the order of the index."""
        ids, scores = self.engine.search(queries, k, threads, **knobs)
        return self.items[ids].astype(np.int64), scores

    def __getattr__(self, name: str):
        return getattr(self.engine, name)

    def __enter__(self) -> "Reordered":
        return self

    def __exit__(self, *_) -> None:
        self.engine.close()


def build_index(home, engine: str, vectors, vectors_id: str, threads: int = 1, force: bool = False, **knobs) -> Index:
    """The index of `vectors` under `<home>/indexes/<index id>/`, built if it does not exist or `force` is set.

    vectors: DenseVectors, LexiconVectors or Impacts. vectors_id: id of the vectors before pruning and quantising.
    knobs: build knobs. Raises what `Engine.build` raises, and InputError for a scale that cuts more than 0.1% of the
    weights; an unfinished build leaves no folder.
    """
    made_from = {
        "vectors": vectors_id,
        "top_k": getattr(vectors, "top_k", None),
        "bits": getattr(vectors, "bits", None),
        "scale": getattr(vectors, "scale", None) if getattr(vectors, "bits", None) else None,
        "engine": engine,
        "knobs": knobs,
        "order": ORDER,
        "code": _code(engine, vectors.kind),
    }
    index_id = config.fingerprint(made_from)
    folder = Path(home) / "indexes" / index_id
    if force or not folder.is_dir():
        if made_from["bits"]:
            check_scale(replace(vectors, bits=None), vectors.bits, vectors.scale)
        log.info("index %s: building (%s of %d items)", index_id, engine, vectors.count)
        _build(folder, engine, shuffled(vectors), threads, knobs, made_from)
    about = read_json(folder / "index.json", _remedy(folder))
    built = (about.get(name) for name in ("peak_bytes", "machine_id"))
    return Index(index_id, folder, engine, about["bytes"], about["seconds"], about["cpu_seconds"], *built)


def _remedy(folder: Path) -> str:
    return f"remove {folder} or use --force to build it again"


def _build(folder: Path, name: str, vectors, threads: int, knobs: dict, made_from: dict) -> None:
    engine = registry.get(name)
    if engine.compiles:
        with tempfile.TemporaryDirectory() as scratch:
            engine.build(vectors.head(WARM_UP_ITEMS), Path(scratch), threads, **knobs)
    with atomic_folder(folder) as partial:
        cpu, wall = _cpu_seconds(), time.perf_counter()
        engine.build(vectors, partial, threads, **knobs)
        seconds, cpu_seconds = time.perf_counter() - wall, _cpu_seconds() - cpu
        built = {"seconds": seconds, "cpu_seconds": cpu_seconds, "threads": threads, "peak_bytes": peak_bytes()}
        paths = index_files(partial)
        files = {str(path.relative_to(partial)): {"bytes": path.stat().st_size, "crc32": crc32(path)} for path in paths}
        about = {"made_from": made_from, "files": files, "bytes": engine.bytes_on_disk(partial)}
        about |= {"count": vectors.count, "machine_id": machine()["machine_id"]}
        write_json(partial / "index.json", about | built, seal=True)


@functools.cache
def _code(engine: str, kind: str) -> str:
    pruning = ("bench.vectors.impacts",) if kind == "lexicon" else ()
    return registry.code_id(engine, "bench.vectors.read", "bench.engines.shuffled", *pruning)


def _cpu_seconds() -> float:
    """CPU time of this process and of its finished children, over all threads."""
    return sum(os.times()[:4])


def peak_bytes() -> int:
    """Peak resident memory of this process, or of a finished child, if larger.

    Trap: `ru_maxrss` of a process starts at the peak of its parent, so on Linux its own peak is read from /proc. That
    of a child starts at the peak of this process, which is part of the maximum anyway.
    """
    import resource  # not on Windows

    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    lines = PROCESS.read_text().splitlines() if PROCESS.exists() else ()
    high_water = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), own)
    return max(high_water, children) * unit
