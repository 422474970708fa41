"""Indexes on disk: built once, reused by id (a hash of vectors, engine, knobs and code), refused when a file is broken.

Items are indexed in a fixed pseudo-random order (`bench.engines.shuffled`), so that equal scores favour none. Results
hold the row numbers of the vectors. Indexes of older versions, in the order of the vectors, can still be opened.

`open_index` reads every file once and compares its CRC-32 before the engine opens it, outside of the timed search.
Mapped files are then in the page cache for all engines alike.
"""

import functools
import logging
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.engines import registry
from bench.engines.contract import NO_RESULT, Engine, index_files
from bench.engines.shuffled import ORDER, order, shuffled
from bench.store import config
from bench.vectors.scales import check_scale
from models.files import BrokenFileError, atomic_folder, crc32, read_json, write_json

log = logging.getLogger(__name__)
WARM_UP_ITEMS = 64


@dataclass(frozen=True)
class Index:
    """A complete index.

    bytes: size of its files; None when a server holds it and reports no size. seconds, cpu_seconds: time of the build,
    including reading, pruning and quantising the vectors.
    """

    id: str
    folder: Path
    engine: str
    bytes: int | None
    seconds: float
    cpu_seconds: float

    def open(self) -> "Engine | Reordered":
        """As `open_index`."""
        return open_index(self.folder)


def open_index(folder: Path) -> "Engine | Reordered":
    """The engine of an index, ready for search. Raises BrokenFileError if a file is missing, truncated or changed."""
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
    engine = registry.get(about["made_from"]["engine"]).open(folder)
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
    return Index(index_id, folder, engine, about["bytes"], about["seconds"], about["cpu_seconds"])


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
        paths = index_files(partial)
        files = {str(path.relative_to(partial)): {"bytes": path.stat().st_size, "crc32": crc32(path)} for path in paths}
        about = {"made_from": made_from, "files": files, "bytes": engine.bytes_on_disk(partial)}
        about |= {"count": vectors.count}
        write_json(
            partial / "index.json",
            about | {"seconds": seconds, "cpu_seconds": cpu_seconds, "threads": threads},
            seal=True,
        )


@functools.cache
def _code(engine: str, kind: str) -> str:
    pruning = ("bench.vectors.impacts",) if kind == "lexicon" else ()
    return registry.code_id(engine, "bench.vectors.read", "bench.engines.shuffled", *pruning)


def _cpu_seconds() -> float:
    """CPU time of this process and of its finished children, over all threads."""
    return sum(os.times()[:4])
