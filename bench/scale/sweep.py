"""The sweep: every engine, build knob and search knob over one gallery, in rounds, point by point, each in its own process.

Notable choices
- Engines take turns, those of both sides: a round measures each of them once, so that a drift of the machine hits all alike. A rate is the
  median of the rounds.
- A point is written as soon as it is whole. What a killed sweep had measured of a round lies in `<home>/sweeps/` and is taken up again.
- Accuracy is taken over the queries that are timed: a thousand, evenly spaced, one caption or so of each test image. The captions of an image
  succeed and fail together, so five times as many would cost five times the time of the slowest engines and tell little more. Recall against
  exact search (`engine_recall@10`) is over a sample of them, by brute force that shares no code with any engine.
"""

import dataclasses
import functools
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench import engines
from bench.engines import exact
from bench.scale.plan import Cell, Grid
from bench.scale.worker import load, vectors_of
from bench.store import cli, config
from bench.store.isolated import Limits, Outcome, raise_if_broken, run_job
from bench.store.machine import cores, note_of_other_work
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks import timing as measure
from bench.tasks.relevance import Relevance
from bench.vectors.read import Vectors
from bench.vectors.statistics import describe
from models.files import read_json, write_json

log = logging.getLogger(__name__)

ENCODED_CONTROL = "encoded_control"
"""The task of encoded vectors that are searched beside the generated ones which were made after them."""
QUALITY = ("engine_recall@10", "recall@1")  # what is told of partial results
OF_THIS_PROCESS = (
    "build_cpu_seconds",
    "build_peak_bytes",
    "resident_bytes",
)  # of no use where the work is done elsewhere
CODE = (
    "bench.scale.sweep",
    "bench.scale.worker",
    "bench.tasks.timing",
    "bench.tasks.evaluation",
    "bench.vectors.impacts",
    "bench.engines.exact",
    "bench.engines.ranking",
)


@dataclass(frozen=True)
class Side:
    """One model's vectors of the gallery and of the queries, and what its records say of it (`base`)."""

    documents: Vectors
    documents_id: str
    queries: Vectors
    queries_id: str
    base: Point
    judged: bool = True  # whether a query has a right item: without, engines are compared and no task is measured

    @property
    def kind(self) -> str:
        return self.documents.kind


class Sweep:
    """The cells of one side at one gallery size, and the points that come of them."""

    def __init__(self, store: RecordStore, home: Path, side: Side, grid: Grid, limits: Limits, force: bool = False):
        self.store, self.home, self.side, self.grid, self.limits, self.force = (
            store,
            Path(home),
            side,
            grid,
            limits,
            force,
        )
        self.code = config.code_fingerprint(*CODE)
        self.which = measure.evenly(side.queries.count, grid.queries)
        self.sample = measure.evenly(len(self.which), grid.checked)  # places in `which`
        self.modes = grid.threaded

    # --- identity -----------------------------------------------------------------------------------------------------------------

    def documents(self, cell: Cell) -> dict:
        return self._spec(self.side.documents, cell.count, cell.lexicons and cell.lexicons.top_k, cell)

    def queries(self, cell: Cell) -> dict:
        return self._spec(self.side.queries, None, cell.lexicons and cell.lexicons.query_top_k, cell)

    def _asked(self, cell: Cell) -> dict:
        return self.queries(cell) | {"which": self.which.tolist()}

    def _spec(self, vectors: Vectors, count: int | None, top_k: int | None, cell: Cell) -> dict:
        spec = {"folder": str(vectors.folder), "count": count}
        if cell.lexicons:
            bits = cell.lexicons.bits
            # 4 bits are a precision, stored in 8: no library packs them
            spec |= {"top_k": top_k, "bits": bits and max(bits, 8), "scale": self.grid.scales.get(bits, 1.0)}
        return spec

    def point(self, cell: Cell, search: dict, **fields) -> Point:
        knobs = cell.knobs | search
        if cell.lexicons:
            knobs |= {"query_top_k": cell.lexicons.query_top_k, "scale": self.grid.scales.get(cell.lexicons.bits, 1.0)}
        return replace(
            self.side.base,
            task="sharded" if cell.sharded else self.side.base.task,
            images=cell.count,
            engine=cell.engine,
            knobs=knobs,
            exact=engines.get(cell.engine).exact,
            top_k=cell.lexicons and cell.lexicons.top_k,
            bits=cell.lexicons and cell.lexicons.bits,
            vectors_id=self.side.documents_id,
            index_id=self.cell_id(cell),
            code_id=self.code,
            **fields,
        )

    def cell_id(self, cell: Cell) -> str:
        """Of what an index is made from and searched with, code included."""
        made_from = [
            self.side.documents_id,
            self.side.queries_id,
            self.documents(cell),
            self.queries(cell),
            cell.engine,
            cell.knobs,
        ]
        for spec in made_from[2:4]:
            spec.pop("folder")
        return config.fingerprint(
            [*made_from, self.side.base.task, config.code_fingerprint(*engines.modules(cell.engine))]
        )

    def accuracy_point(self, cell: Cell, search: dict) -> Point:
        return self.point(cell, search, queries=len(self.which), depth=self._depth(cell))

    def timing_point(self, cell: Cell, search: dict, mode: str, threads: int) -> Point:
        fields = {"queries": len(self.which), "depth": self.grid.depth, "batch_mode": mode, "threads": threads}
        return self.point(cell, search, **fields)

    def points(self, cell: Cell) -> list[Point]:
        """All points of a cell."""
        timed = [self.timing_point(cell, search, *mode) for search in cell.searches for mode in self.modes]
        return [self.accuracy_point(cell, search) for search in cell.searches] + timed

    def _depth(self, cell: Cell) -> int:
        return min(self.grid.accuracy_depth, cell.count)

    # --- running ------------------------------------------------------------------------------------------------------------------

    def pending(self, cells: list[Cell]) -> list[Cell]:
        """Those with a point that is not measured."""
        return [cell for cell in cells if self.force or not all(self.store.has(point) for point in self.points(cell))]

    def run(self, cells: list[Cell]) -> dict[str, float]:
        """As `take_turns`, of this side alone."""
        return take_turns([(self, cells)])[0]

    def build(self, cell: Cell) -> dict | None:
        """What building the index gave, None when it ended badly; the points of the cell say how, then."""
        request = {
            "home": str(self.home),
            "engine": cell.engine,
            "documents": self.documents(cell),
            "vectors_id": f"{self.side.documents_id}[:{cell.count}]",
            "threads": cores(),
            "knobs": cell.knobs,
            "force": self.force,
        }
        outcome, _ = self._job(cell, "build", "build", request)
        return outcome.result if self._went_well(cell, "build", outcome) else None

    def judge(self, cell: Cell, index: dict) -> bool:
        """Writes the accuracy points of a cell; False when its search ended badly."""
        if all(self.store.has(self.accuracy_point(cell, search)) for search in cell.searches) and not self.force:
            return True
        request = {
            "folder": index["folder"],
            "queries": self._asked(cell),
            "search": cell.searches,
            "depth": self._depth(cell),
        }
        outcome, folder = self._job(cell, "accuracy", "accuracy", request | {"threads": cores()})
        whole = self._went_well(cell, "search", outcome)
        if not (whole or outcome.result):
            return False
        documents, asked = vectors_of(self.documents(cell)), vectors_of(self.queries(cell))
        sampled = asked.rows(0, asked.count)[self.which[self.sample]]
        best = self._best_scores(cell)
        for number, search in enumerate(cell.searches):
            ids = load(folder / f"ids-{number}.npz")
            found = exact.true_scores(documents, sampled, ids[self.sample][:, : self.grid.depth])
            recall = exact.recall(found, best, min(self.grid.depth, cell.count))
            values = {
                "engine_recall@10": recall,
                "build_seconds": index["seconds"],
                "build_cpu_seconds": index["cpu_seconds"],
                "build_peak_bytes": index["peak_bytes"],
                "resident_bytes": max(0, outcome.result["resident_bytes"]),
            }
            if engines.get(cell.engine).elsewhere:
                values = {name: value for name, value in values.items() if name not in OF_THIS_PROCESS}
            if index["bytes"] is not None:
                values |= {"index_bytes": index["bytes"], "bytes_per_image": index["bytes"] / cell.count}
            note = "called exact, and is not on these vectors" if engines.get(cell.engine).exact and recall < 1 else ""
            sidecar = None
            if self.relevance:
                ranks, relevant = self.relevance.ranks(ids, self.which)
                values |= evaluation.evaluate(ranks, relevant, ids.shape[1])
                sidecar = self.relevance.sidecar(self.which, ranks)
            if "touched_bytes" in outcome.result:
                values["touched_bytes"] = outcome.result["touched_bytes"]
            if not whole:
                note = f"{outcome.note}; without it {', '.join(f'{name} {values[name]:.4f}' for name in QUALITY if name in values)}"
            self.store.write(
                self.accuracy_point(cell, search), values, sidecar if whole else None, status=outcome.status, note=note
            )
        return whole

    def _best_scores(self, cell: Cell) -> np.ndarray:
        """(checked, depth) exact scores of the sampled queries over what the cell's index was given; computed once for all engines."""
        spec = {
            "documents": self.documents(cell),
            "queries": self.queries(cell) | {"which": self.which[self.sample].tolist()},
        }
        ids = [
            self.side.documents_id,
            self.side.queries_id,
            config.code_fingerprint("bench.engines.exact", "bench.vectors.impacts"),
        ]
        folder = self.home / "sweeps" / f"exact-{config.fingerprint([spec, self.grid.depth, ids])}"
        if not (folder / "best.npz").exists() or self.force:
            raise_if_broken(
                run_job("truth", spec | {"depth": self.grid.depth}, folder, self.limits), "exact search by brute force"
            )
        return load(folder / "best.npz")

    def time_round(self, cell: Cell, index: dict, number: int) -> bool:
        """Times a cell once, at all its search knobs, in all modes; False when that ended badly."""
        outcome, _ = self._job(cell, f"round-{number}", "timing", self._timing_request(cell, index))
        return self._went_well(cell, f"round {number + 1}", outcome)

    def _timing_request(self, cell: Cell, index: dict) -> dict:
        return {
            "folder": index["folder"],
            "queries": self._asked(cell),
            "search": cell.searches,
            "modes": self.modes,
            "depth": self.grid.depth,
            "seconds": self.grid.seconds,
            "batch_seconds": self.grid.batch_seconds,
            "least_batch": getattr(self.grid.least_batch, self.side.kind),
        }

    def write_timing(self, cell: Cell) -> None:
        """The rounds of a cell as points: the median of the rates and their range, the percentiles of all latencies."""
        folders = [self.home / "sweeps" / self.cell_id(cell) / f"round-{number}" for number in range(self.grid.rounds)]
        rounds = [_answer(folder)["result"] for folder in folders]
        touched = _answer(folders[0].parent / "accuracy")["result"].get("touched_bytes")
        combined = [(s, m) for s in range(len(cell.searches)) for m in range(len(self.modes))]
        for place, (s, m) in enumerate(combined):
            mode, threads = self.modes[m]
            passes = [one["passes"][place] for one in rounds]
            rates = [one["qps"] for one in passes]
            values = {"qps": float(np.median(rates)), "qps_min": min(rates), "qps_max": max(rates)}
            if mode == "single":
                answered = min(one["queries"] for one in passes)
                latency_us = np.stack([load(folder / f"latency-{s}-{m}.npz")[:answered] for folder in folders])
                values |= {
                    f"latency_p{share}_us": evaluation.percentile(latency_us.ravel(), share) for share in (50, 95, 99)
                }
            if touched:
                bandwidth = float(np.median([one["bandwidth"][str(threads)] for one in rounds]))
                values["limit_qps"] = bandwidth / touched
            values |= {name: float(np.median([one["told"][name] for one in passes])) for name in passes[0]["told"]}
            self.store.write(self.timing_point(cell, cell.searches[s], mode, threads), values, note=_note(passes))

    def _went_well(self, cell: Cell, what: str, outcome: Outcome) -> bool:
        """Writes how it ended to the points of the cell that are not measured yet, when it did not end well."""
        if outcome.status == "ok":
            return True
        for point in self.points(cell):
            if self.force or self.store.status(point) != "ok":
                self.store.write(point, {}, status=outcome.status, note=f"{what}: {outcome.note}")
        return False

    def _job(self, cell: Cell, name: str, job: str, request: dict) -> tuple[Outcome, Path]:
        """Runs a job of a cell unless its answer is there from a sweep that was killed, and the same was asked of the same code."""
        folder = self.home / "sweeps" / self.cell_id(cell) / name
        stored, made_from = folder / "outcome.json", config.fingerprint([request, self.code])
        if stored.exists() and not self.force:
            answer = _answer(folder)
            removed = (
                job == "build" and not Path(answer["result"]["folder"]).exists()
            )  # because a file in it was broken, say
            if answer["made_from"] == made_from and not removed:
                return Outcome(answer["status"], answer["result"], answer["note"]), folder
        log.info("%s %s: %s", cell.engine, cell.knobs or "", name)
        outcome = run_job(job, request, folder, self.limits)
        if outcome.status == "ok":
            write_json(stored, dataclasses.asdict(outcome) | {"made_from": made_from}, seal=True)
        return outcome, folder

    @functools.cached_property
    def relevance(self) -> Relevance | None:
        """None where the vectors do not say which image a query belongs to: then engines are compared, and no task is measured."""
        return Relevance(self.side.documents, self.side.queries) if self.side.judged else None


STEPS = ("build", "accuracy", "rounds")


def take_turns(sides: list[tuple[Sweep, list[Cell]]]) -> list[dict[str, float]]:
    """Measures what is missing of the cells of each side; in a round, the sides take turns index by index.

    Returns for each side the seconds that each of `STEPS` took. Raises InputError when an exact answer itself cannot be computed.
    """
    spent: dict[Sweep, Counter] = {sweep: Counter({step: 0.0 for step in STEPS}) for sweep, _ in sides}

    def each(step: str, turns: list[tuple[Sweep, Cell]], work: Callable, label: str = "") -> list[tuple[Sweep, Cell]]:
        """The turns whose work went well."""
        sizes = {cell.count for _, cell in turns}
        went_well = []
        for sweep, cell in cli.progress(
            turns, desc=f"{', '.join(f'{size:,}' for size in sizes) or 0}: {label or step}", unit="index"
        ):
            began = time.perf_counter()
            if work(sweep, cell):
                went_well.append((sweep, cell))
            spent[sweep][step] += time.perf_counter() - began
        return went_well

    def build(sweep: Sweep, cell: Cell) -> bool:
        indexes[sweep, cell] = sweep.build(cell)
        return indexes[sweep, cell] is not None

    indexes: dict[tuple[Sweep, Cell], dict | None] = {}
    one_by_one = itertools.zip_longest(*([(sweep, cell) for cell in sweep.pending(cells)] for sweep, cells in sides))
    turns = each("build", [turn for of_all in one_by_one for turn in of_all if turn], build)
    turns = each("accuracy", turns, lambda sweep, cell: sweep.judge(cell, indexes[sweep, cell]))
    rounds = sides[0][0].grid.rounds if sides else 0
    for number in range(rounds):
        time_once = lambda sweep, cell, number=number: sweep.time_round(cell, indexes[sweep, cell], number)  # noqa: E731
        turns = each("rounds", turns, time_once, f"round {number + 1} of {rounds}")
    for sweep, cell in turns:
        sweep.write_timing(cell)
    return [dict(spent[sweep]) for sweep, _ in sides]


def _answer(folder: Path) -> dict:
    """How a job ended, and what was asked."""
    return read_json(folder / "outcome.json", f"remove {folder} to run its job again")


def _note(passes: list[dict]) -> str:
    rates, answered = [one["qps"] for one in passes], min(one["queries"] for one in passes)
    note = f"median of {len(rates)} rounds, {min(rates):.4g} to {max(rates):.4g} queries/s; {answered} queries a round"
    busiest = max(one["other_cores"] for one in passes)
    loaded = note_of_other_work(busiest)
    elsewhere = passes[0]["elsewhere"] and f"{passes[0]['elsewhere']}, whose other work is not watched"
    return "; ".join(filter(None, (loaded, note, elsewhere)))


def record_vectors(store: RecordStore, side: Side, count: int, force: bool) -> None:
    """The statistics of lexicon vectors that decide what an index of them costs: vocabulary, skew, active lexicons, overlap."""
    code = config.code_fingerprint("bench.vectors.statistics")
    point = replace(
        side.base, task="vectors", images=count, queries=side.queries.count, vectors_id=side.documents_id, code_id=code
    )
    if side.kind == "lexicon" and (force or not store.has(point)):
        found = describe(side.documents.prefix(count), side.queries)
        store.write(point, {f"vectors_{name}": value for name, value in found.items()})
