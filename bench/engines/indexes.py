"""Indexes on disk: built once for what they are made of, found again by their id, refused when a file of them is broken.

Opening one reads all its files once and compares their CRC-32, before the engine sees them and outside of what is timed. What search
maps is then in memory for all engines alike.
"""

import functools
import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import engines
from bench.engines import Engine
from bench.store import config
from models.files import BrokenFileError, atomic_folder, crc32, read_json, write_json

log = logging.getLogger(__name__)
WARM_UP_ITEMS = 64


@dataclass(frozen=True)
class Index:
    """A whole index. bytes: None when a server has it and does not tell.

    seconds, cpu_seconds: what building it took, reading, pruning and quantising the vectors included.
    """

    id: str
    folder: Path
    engine: str
    bytes: int | None
    seconds: float
    cpu_seconds: float

    def open(self) -> Engine:
        """The engine, ready for search. Raises BrokenFileError when a file is missing, truncated or changed."""
        return open_index(self.folder)


def open_index(folder: Path) -> Engine:
    """The engine of a built index, ready for search. Raises BrokenFileError when a file is missing, truncated or changed."""
    folder = Path(folder)
    about, remedy = read_json(folder / "index.json", _remedy(folder)), _remedy(folder)
    for name, written in about["files"].items():
        path = folder / name
        size = path.stat().st_size if path.exists() else None
        if size != written["bytes"]:
            raise BrokenFileError(
                f"{path}: {'missing' if size is None else f'{size} bytes'}, expected {written['bytes']} bytes; {remedy}"
            )
        if crc32(path) != written["crc32"]:
            raise BrokenFileError(f"{path}: changed since it was written (its CRC-32 differs); {remedy}")
    return engines.get(about["made_from"]["engine"]).open(folder)


def build_index(home, engine: str, vectors, vectors_id: str, threads: int = 1, force: bool = False, **knobs) -> Index:
    """The index of `vectors` (DenseVectors, LexiconVectors or Impacts) under `<home>/indexes/<index id>/`, built unless it is there.

    vectors_id: id of the vectors before pruning and quantising; `knobs`: the engine's build knobs.
    """
    made_from = {
        "vectors": vectors_id,
        "top_k": getattr(vectors, "top_k", None),
        "bits": getattr(vectors, "bits", None),
        "scale": getattr(vectors, "scale", None) if getattr(vectors, "bits", None) else None,
        "engine": engine,
        "knobs": knobs,
        "code": _code(engine),
    }
    index_id = config.fingerprint(made_from)
    folder = Path(home) / "indexes" / index_id
    if force or not folder.is_dir():
        log.info("index %s: building (%s of %d items)", index_id, engine, vectors.count)
        _build(folder, engine, vectors, threads, knobs, made_from)
    about = read_json(folder / "index.json", _remedy(folder))
    return Index(index_id, folder, engine, about["bytes"], about["seconds"], about["cpu_seconds"])


def _remedy(folder: Path) -> str:
    return f"remove {folder} or use --force to build it again"


def _build(folder: Path, name: str, vectors, threads: int, knobs: dict, made_from: dict) -> None:
    engine = engines.get(name)
    if engine.compiles:
        with tempfile.TemporaryDirectory() as scratch:
            engine.build(vectors.head(WARM_UP_ITEMS), Path(scratch), threads, **knobs)
    with atomic_folder(folder) as partial:
        cpu, wall = _cpu_seconds(), time.perf_counter()
        engine.build(vectors, partial, threads, **knobs)
        seconds, cpu_seconds = time.perf_counter() - wall, _cpu_seconds() - cpu
        paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(partial)): {"bytes": path.stat().st_size, "crc32": crc32(path)} for path in paths}
        about = {"made_from": made_from, "files": files, "bytes": engine.bytes_on_disk(partial)}
        write_json(
            partial / "index.json",
            about | {"seconds": seconds, "cpu_seconds": cpu_seconds, "threads": threads},
            seal=True,
        )


@functools.cache
def _code(engine: str) -> str:
    return config.code_fingerprint("bench.vectors.impacts", "bench.vectors.read", *engines.modules(engine))


def _cpu_seconds() -> float:
    """CPU time of this process and of the children it has waited for, over all threads."""
    return sum(os.times()[:4])
