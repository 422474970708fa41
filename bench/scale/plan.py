"""The grid of a sweep (`sweep.yaml`), and the cells that it gives at a gallery size."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench import engines
from bench.store import config
from bench.store.machine import cores
from bench.vectors.scales import PUBLISHED
from models.config import Count, Positive
from models.errors import InputError

log = logging.getLogger(__name__)
GRID = Path(__file__).with_name("sweep.yaml")
LEAST_DEPTH = 10


@dataclass(frozen=True)
class Lexicons:
    """Weights that a lexicon index is built from and searched with; None = all lexicons, or float32 weights."""

    top_k: int | None = 32  # lexicons per document
    bits: int | None = 8
    query_top_k: int | None = None  # lexicons per query


@dataclass(frozen=True)
class MinBatch:
    """Minimum number of queries in a batch, by the kind of vectors."""

    lexicon: Count = 64
    dense: Count = 256


@dataclass(frozen=True)
class Grid:
    """What is swept and how it is measured; `sweep.yaml` explains each key."""

    main: Lexicons = Lexicons()
    top_k: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    query_top_k: tuple[int | None, ...] = ()
    scales: dict[int, float] = field(default_factory=dict)
    scale_percentile: float = 100.0
    depth: Count = 10
    queries: Count = 1000
    exact_queries: Count = 200
    rounds: Count = 3
    seconds: Positive = 1.0
    batch_seconds: Positive = 5.0
    min_batch: MinBatch = MinBatch()
    modes: tuple[tuple[Literal["single", "batched"], Count | Literal["all"]], ...] = ()
    vocabularies: tuple[int, ...] = ()
    knobs: dict[str, dict[str, list]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path = GRID, overrides: tuple[str, ...] = ()) -> "Grid":
        """The grid of a YAML file, the default one unless given, with dotted overrides such as `rounds=1`.

        Raises InputError for an unknown key, engine or knob, for a value of the wrong type, for less than 10
        results, and for bits without a published scale.
        """
        tree = config.read_yaml(file)
        for override in overrides:
            tree = config.merge(tree, config.parse_override(override))
        grid = config.build(cls, tree, str(file))
        if grid.depth < LEAST_DEPTH:
            raise InputError(f"{file}: depth: expected at least {LEAST_DEPTH}, which engine recall needs: {grid.depth}")
        if unknown := [bits for bits in (grid.main.bits, *grid.bits) if bits not in (None, *PUBLISHED)]:
            raise InputError(f"{file}: bits: expected {', '.join(map(str, PUBLISHED))}, got {unknown[0]}")
        for engine, chosen in grid.knobs.items():
            _check_knobs(engine, chosen, f"{file}: knobs.{engine}")
        return grid

    @property
    def threaded(self) -> list[tuple[str, int]]:
        """The modes with their number of threads. On one core "all" equals 1, and is not measured twice."""
        modes = [(mode, cores() if threads == "all" else int(threads)) for mode, threads in self.modes]
        return list(dict.fromkeys(modes))


def check_engines(chosen: list[str], kinds: list[str]) -> None:
    """Raises InputError for a kind of vectors that no chosen engine searches; warns of engines for no such kind."""
    for kind in kinds:
        if set(engines.names(kind)).isdisjoint(chosen):
            of_chosen = ", ".join(f"{name} ({_kind_of(name)})" for name in chosen)
            others = [other for other in kinds if not set(engines.names(other)).isdisjoint(chosen)]
            without = f", or leave the {kind} vectors out with --kinds {','.join(others)}" if others else ""
            expected = ", ".join(engines.names(kind))
            raise InputError(
                f"--engines: no engine for {kind} vectors: got {of_chosen}; "
                f"expected at least one of {expected}{without}"
            )
    for name in chosen:
        if not any(name in engines.names(kind) for kind in kinds):
            log.warning("%s searches %s vectors, and these are %s: left out", name, _kind_of(name), ", ".join(kinds))


def _kind_of(name: str) -> str:
    return engines.get(name).kind


def _check_knobs(engine: str, chosen: dict[str, list], where: str) -> None:
    engines.get(engine)
    known = engines.knob_names(engine)
    for knob, values in chosen.items():
        if knob not in known:
            raise InputError(f"{where}.{knob}: no such knob; expected {', '.join(known) or 'none, it has no knobs'}")
        if not values:
            raise InputError(f"{where}.{knob}: expected at least one value")


@dataclass(frozen=True, eq=False)
class Cell:
    """One index to build and search: an engine with build knobs over the first `count` items of a gallery."""

    engine: str
    knobs: dict  # of the build
    count: int
    lexicons: Lexicons | None  # None for dense vectors
    searches: list[dict]  # settings of the search knobs

    @property
    def sharded(self) -> bool:
        """Whether the index is split over the nodes of a Ray cluster."""
        return self.engine.startswith(engines.SHARDED)


def plan(kind: str, count: int, grid: Grid, chosen: list[str], largest: bool, shards: int | None = None) -> list[Cell]:
    """The cells of one gallery size: every chosen engine for this kind of vectors, at the main setting.

    At the largest size, every knob is swept, and `impact` runs at all other settings too. Smaller sizes show how an
    engine grows, at the first value of each knob.
    chosen: names of engines. shards: number of parts that each index is split into; None for a whole index.
    """
    cells = []

    def knobs(name: str, stage: str) -> list[dict]:
        combinations = engines.grid(name, stage, grid.knobs.get(name))
        return combinations if largest else combinations[:1]

    for name in chosen:
        engine = engines.get(name)
        if engine.kind not in (kind, "any"):
            continue
        main = None if kind == "dense" else _accepted(grid.main, engine.weights)
        cells += [Cell(name, built, count, main, knobs(name, "search")) for built in knobs(name, "build")]
        if largest and name == "impact":
            cells += [Cell(name, {}, count, other, [{}]) for other in _other_settings(grid) if other != main]
    return [_in_shards(cell, shards) for cell in cells] if shards else cells


def _accepted(main: Lexicons, weights: tuple[int | None, ...]) -> Lexicons:
    """The main setting, with float32 weights for an engine that does not accept its bits."""
    return main if main.bits in weights else replace(main, bits=None)


def _other_settings(grid: Grid) -> list[Lexicons]:
    """The main setting with one value changed, for each value of the grid."""
    others = [replace(grid.main, top_k=top_k) for top_k in grid.top_k]
    others += [replace(grid.main, bits=bits) for bits in grid.bits]
    others += [replace(grid.main, query_top_k=top_k) for top_k in grid.query_top_k]
    return list(dict.fromkeys(others))


def _in_shards(cell: Cell, shards: int) -> Cell:
    return replace(cell, engine=f"{engines.SHARDED}{cell.engine}", knobs=cell.knobs | {"shards": shards})
