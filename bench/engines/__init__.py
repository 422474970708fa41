"""The contract of a search engine, and the registry of those that exist.

A new engine is one file in this folder and a few lines in `grids.yaml`; nothing else knows its name. Its package is imported only in that
file, inside the methods that need it, with `models.errors.require` as the error when it is absent.

What every engine promises
    Results are sorted by score, descending, then by id, ascending; ids are row numbers of the vectors it was built from.
    Fewer than k results are padded with id -1 and score -inf.
    Lexicon engines return only documents that share a lexicon with the query: a score of 0 is no result (an inverted index never touches
    those). Dense engines return any document, with whatever score.
    `exact` engines return the true top k of the vectors they were given (tested against brute force). float32 scores may round: order is
    by the engine's own arithmetic. One that calls itself exact and is not is labelled by its measured overlap, not by this flag.
"""

import abc
import functools
import importlib
import itertools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from models.errors import InputError, nearest

GRIDS = Path(__file__).with_name("grids.yaml")
NO_RESULT, NO_SCORE = -1, -np.inf
EMBEDDED, BY_URL = "embedded", "by URL"
SHARDED = "sharded-"  # before an engine's name: that engine in shards over a Ray cluster (`bench.engines.sharded`)


class Engine(abc.ABC):
    """One opened index. Made without arguments; `build` writes a folder, `open` reads it, `search` may then be called from one thread."""

    name: ClassVar[str]
    kind: ClassVar[str]  # "dense", "lexicon", or "any"
    exact: ClassVar[bool]
    weights: ClassVar[tuple[int | None, ...]] = (None,)  # what it takes: None = float32, 8 = uint8, 16 = uint16 impacts
    parts: ClassVar[tuple[str, ...]] = ()  # other modules that decide what it returns
    compiles: ClassVar[bool] = False  # at its first use: a small index is built and thrown away before a build is timed
    elsewhere: str = ""  # where it builds and searches, if not in this process: what this one takes of memory and time is then no measure
    served: str = (
        ""  # of a server engine EMBEDDED or BY_URL, as the environment says: a build knob, and so part of every record
    )

    @abc.abstractmethod
    def build(self, vectors, folder: Path, threads: int = 1, **knobs) -> None:
        """Writes the index of `vectors` into the empty `folder`, reading them shard by shard (`vectors.shards()`)."""

    @abc.abstractmethod
    def open(self, folder: Path) -> "Engine":
        """Opens an index for search; returns self. Raises InputError when a file of it is broken."""

    def prepare(self, queries, **knobs) -> Any:
        """A batch of queries in the engine's own form (strings for Lucene, say). Not part of the timed search; the default changes nothing.

        queries: (Q, D) float32 array, or CSR array (Q, V) of the weights the index was built with.
        """
        return queries

    @abc.abstractmethod
    def search(self, queries, k: int, threads: int = 1, **knobs) -> tuple[np.ndarray, np.ndarray]:
        """The top k of each prepared query: ids (Q, k) int64, scores (Q, k) float32."""

    def bytes_on_disk(self, folder: Path) -> int | None:
        """Bytes of the files that search opens; None when a server has them and does not tell."""
        return sum(
            file.stat().st_size for file in Path(folder).rglob("*") if file.is_file() and file.name != "index.json"
        )

    def what_is_missing(self) -> str:
        """One line on the part of an index that gives no answer any more, so that results are partial; "" when they are whole."""
        return ""

    def told(self, searches: int) -> dict[str, float]:
        """Metrics that only the engine can tell of its last so many searches, for the record of their timing."""
        return {}

    def close(self) -> None:  # noqa: B027  (most have nothing to let go of)
        """Lets go of files and threads."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def names(kind: str | None = None) -> list[str]:
    """Registered engines, those of a kind or all."""
    return [name for name, entry in _registry().items() if kind in (None, entry["kind"]) or entry["kind"] == "any"]


def unasked() -> list[str]:
    """What "all" engines stands for: those that are not run only when asked for by name (`by_name: true` in `grids.yaml`)."""
    return [name for name, entry in _registry().items() if not entry.get("by_name")]


def get(name: str) -> Engine:
    """A new engine of that name. Raises InputError for an unknown one, naming the nearest."""
    if name.startswith(SHARDED):
        from bench.engines.sharded import Sharded

        return Sharded(name.removeprefix(SHARDED))
    if name not in _registry():
        raise InputError(f"unknown engine '{name}'{nearest(name, _registry())}")
    module, _, cls = _registry()[name]["class"].partition(":")
    return getattr(importlib.import_module(module), cls)()


def modules(name: str) -> tuple[str, ...]:
    """The modules of an engine: their code is part of the identity of what it returns."""
    if name.startswith(SHARDED):
        return "bench.engines.sharded", *modules(name.removeprefix(SHARDED))
    return _registry()[name]["class"].partition(":")[0], *get(name).parts


def gpus(name: str) -> int:
    """How many it computes on."""
    return int(_registry()[name]["extra"] == "gpu")


def knob_names(name: str) -> list[str]:
    """The knobs of an engine that are swept, those of building first."""
    return [knob for stage in ("build", "search") for knob in _registry()[name].get(stage) or {}]


def grid(name: str, stage: str, chosen: dict[str, list] | None = None) -> list[dict]:
    """Every combination of an engine's knobs. stage: "build" or "search"; [{}] when it has none. chosen: values in place of those of grids.yaml."""
    served = get(name).served
    knobs = {knob: (chosen or {}).get(knob, values) for knob, values in (_registry()[name].get(stage) or {}).items()}
    if served and stage == "build":
        knobs = knobs | {"served": [served]}
    return [dict(zip(knobs, values, strict=True)) for values in itertools.product(*knobs.values())]


@functools.cache
def _registry() -> dict[str, dict]:
    return yaml.safe_load(GRIDS.read_text(encoding="utf-8"))
