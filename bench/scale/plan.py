"""What is swept: the grid that `sweep.yaml` holds, and the indexes that come of it at a gallery size."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench import engines
from bench.store import config
from bench.store.machine import cores
from models.config import Count, Positive
from models.errors import InputError

GRID = Path(__file__).with_name("sweep.yaml")


@dataclass(frozen=True)
class Lexicons:
    """What a lexicon index is built from: document lexicons kept and bits; and query lexicons kept (None = all)."""

    top_k: int | None = 32
    bits: int | None = 8
    query_top_k: int | None = None


@dataclass(frozen=True)
class LeastBatch:
    """Queries that a batch holds at least, by the kind of vectors."""

    lexicon: Count = 64
    dense: Count = 256


@dataclass(frozen=True)
class Grid:
    """What is swept, and how it is measured; `sweep.yaml` says what each means."""

    main: Lexicons = Lexicons()
    top_k: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    query_top_k: tuple[int | None, ...] = ()
    scales: dict[int, float] = field(default_factory=dict)
    depth: Count = 10
    accuracy_depth: Count = 100
    queries: Count = 1000
    checked: Count = 200
    rounds: Count = 3
    seconds: Positive = 1.0
    batch_seconds: Positive = 5.0
    least_batch: LeastBatch = LeastBatch()
    modes: tuple[tuple[Literal["single", "batched"], Count | Literal["all"]], ...] = ()
    vocabularies: tuple[int, ...] = ()
    knobs: dict[str, dict[str, list]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path = GRID, overrides: tuple[str, ...] = ()) -> "Grid":
        """The default grid, a file's, with dotted overrides such as `rounds=1`. Raises InputError."""
        tree = config.read_yaml(file)
        for override in overrides:
            tree = config.merge(tree, config.parse_override(override))
        grid = config.build(cls, tree, str(file))
        for name, chosen in grid.knobs.items():
            engines.get(name)
            for knob, values in chosen.items():
                if knob not in engines.knob_names(name):
                    raise InputError(
                        f"{file}: knobs.{name}.{knob}: no such knob; expected {', '.join(engines.knob_names(name)) or 'none, it has no knobs'}"
                    )
                if not values:
                    raise InputError(f"{file}: knobs.{name}.{knob}: expected at least one value")
        return grid

    @property
    def threaded(self) -> list[tuple[str, int]]:
        """The modes with their number of threads; on one core "all" is 1 and not measured twice."""
        return list(
            dict.fromkeys((mode, cores() if threads == "all" else int(threads)) for mode, threads in self.modes)
        )


@dataclass(frozen=True, eq=False)
class Cell:
    """One index to build and search: an engine with its build knobs over the first `count` items of a side, at each of the search knobs."""

    engine: str
    knobs: dict
    count: int
    lexicons: Lexicons | None  # None for dense vectors
    searches: list[dict]

    @property
    def sharded(self) -> bool:
        return self.engine.startswith(engines.SHARDED)


def plan(kind: str, count: int, grid: Grid, chosen: list[str], largest: bool, shards: int | None = None) -> list[Cell]:
    """The cells of one gallery size: each engine for this kind of vectors at the main setting, and at the largest size `impact` at all others.

    At the largest size every knob is swept; the smaller ones show how an engine grows, at the first value of each knob. shards: of each index.
    """
    cells = []

    def knobs(name: str, stage: str) -> list[dict]:
        combined = engines.grid(name, stage, grid.knobs.get(name))
        return combined if largest else combined[:1]

    for name in chosen:
        engine = engines.get(name)
        if engine.kind not in (kind, "any"):
            continue
        main = None if kind == "dense" else _taken(grid.main, engine.weights)
        cells += [Cell(name, built, count, main, knobs(name, "search")) for built in knobs(name, "build")]
        if largest and name == "impact":
            others = [replace(grid.main, top_k=top_k) for top_k in grid.top_k]
            others += [replace(grid.main, bits=bits) for bits in grid.bits]
            others += [replace(grid.main, query_top_k=top_k) for top_k in grid.query_top_k]
            cells += [Cell(name, {}, count, other, [{}]) for other in dict.fromkeys(others) if other != main]
    if shards:
        return [
            replace(cell, engine=f"{engines.SHARDED}{cell.engine}", knobs=cell.knobs | {"shards": shards})
            for cell in cells
        ]
    return cells


def _taken(main: Lexicons, weights: tuple[int | None, ...]) -> Lexicons:
    """The main setting with the bits that an engine takes: those asked for, or else float32."""
    return main if main.bits in weights else replace(main, bits=None)
