"""The sweep: every engine, build knob and search knob over one gallery, point by point, each job in its own process.

Notable choices
- Engines take turns, those of all galleries: a round measures each of them once, so that a drift of the machine affects
  all alike. A rate is the median of the rounds.
- A point is written as soon as it is complete. Jobs that a killed sweep completed lie in `<home>/sweeps/` and are
  reused.
- Accuracy is computed on the timed queries: a thousand, evenly spaced, about one caption per test image. The captions
  of an image are correlated, so five times as many would take five times as long and narrow the interval little. Engine
  recall (`engine_recall@10`) is over a sample of them: the first 10 of the `depth` results, against brute force that
  shares no code with any engine. For quantised weights it is also judged against the same lexicons with float weights
  (`unquantised_recall@10`).
"""

import dataclasses
import functools
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import engines
from bench.engines import exact
from bench.scale.plan import Cell, Grid
from bench.scale.points import Gallery, Points
from bench.scale.worker import load_array, vectors_of
from bench.store import cli, config, isolated
from bench.store.isolated import Limits, Outcome, result_of
from bench.store.machine import cores, machine, note_of_other_work
from bench.store.records import Point, RecordStore, ranking_rows
from bench.tasks import evaluation
from bench.tasks.relevance import Relevance
from bench.tasks.timing import cores_note, timed_order
from bench.vectors.statistics import evenly
from models.files import read_json, write_json

log = logging.getLogger(__name__)

STEPS = ("build", "accuracy", "rounds")
FOUND, FOUND_UNQUANTISED, JUDGED_RESULTS = "engine_recall@10", "unquantised_recall@10", 10
QUALITY = (FOUND, "recall@1")
"""Metrics in the note of a search that lacks a part of its index."""
COLD = ("open_seconds", "first_query_us")
"""Metrics of a process that has just opened an index."""
LATENCIES = 100
"""Single queries whose latencies a record keeps."""
OF_BUILD = ("build_seconds", "build_cpu_seconds", "build_peak_bytes")
OF_THIS_PROCESS = ("build_cpu_seconds", "build_peak_bytes", "resident_bytes")
"""Metrics of the worker process: left out for an engine that builds and searches in another."""

run_job = functools.partial(isolated.run_job, worker="bench.scale.worker")


class Sweep:
    """The cells of one gallery at one size, measured and recorded."""

    def __init__(
        self, store: RecordStore, home: Path, gallery: Gallery, grid: Grid, limits: Limits, force=False, rankings=False
    ):
        """rankings: store the results of all queries too, for those who export runs."""
        self.store, self.home, self.gallery, self.grid = store, Path(home), gallery, grid
        self.limits, self.force, self.rankings = limits, force, rankings
        self.points = Points(gallery, grid)

    def pending(self, cells: list[Cell]) -> list[Cell]:
        """The cells with a point that is not measured yet."""
        return [cell for cell in cells if not all(map(self._is_done, self.points.of(cell)))]

    def has_begun(self, cells: list[Cell]) -> bool:
        """Whether an earlier run has started a job of one of these cells."""
        return any(self._folder(cell).exists() for cell in cells)

    def run(self, cells: list[Cell]) -> dict[str, float]:
        """`take_turns` for this gallery alone."""
        return take_turns([(self, cells)])[0]

    # --- steps --------------------------------------------------------------------------------------------------------

    def build(self, cell: Cell) -> dict | None:
        """Builds the index of a cell and returns the job's result; None when that failed, which its points record."""
        request = {
            "home": str(self.home),
            "engine": cell.engine,
            "documents": self.points.document_request(cell),
            "vectors_id": f"{self.gallery.documents_id}[:{cell.count}]",
            "threads": cores(),
            "knobs": cell.knobs,
            "force": self.force,
        }
        outcome, _ = self._job(cell, "build", "build", request)
        return outcome.result if self._record_failure(cell, "build", outcome) else None

    def measure_accuracy(self, cell: Cell, index: dict) -> bool:
        """Writes the accuracy points of a cell; False when its search failed."""
        answered = (self._folder(cell) / "accuracy" / "outcome.json").exists()  # `write_timing` needs it
        if answered and all(self._is_done(self.points.accuracy(cell, search)) for search in cell.searches):
            return True
        request = {
            "folder": index["folder"],
            "queries": self.points.sampled_query_request(cell),
            "search": cell.searches,
            "depth": min(self.grid.depth, cell.count),
            "threads": cores(),
        }
        outcome, folder = self._job(cell, "accuracy", "accuracy", request)
        complete = self._record_failure(cell, "search", outcome)
        if not complete and not outcome.result:
            return False
        recalls = {FOUND: self._recall_of(cell)}
        if cell.lexicons and cell.lexicons.bits:
            recalls[FOUND_UNQUANTISED] = self._recall_of(replace(cell, lexicons=replace(cell.lexicons, bits=None)))
        for number, search in enumerate(cell.searches):
            ids = load_array(folder / f"ids-{number}.npz")
            found = {name: recall_of(ids) for name, recall_of in recalls.items()}
            values = self._cost(cell, index, outcome.result) | found
            sidecar = ranked = None
            if self.rankings:
                ranked = self._rankings(ids, load_array(folder / f"scores-{number}.npz"))
            if self.relevance:
                of_task, sidecar = self.relevance.evaluate(ids, self.points.queries)
                values |= of_task
            if complete:
                note = self._remarks(cell, index, found[FOUND])
            else:
                without = ", ".join(f"{name} {values[name]:.4f}" for name in QUALITY if name in values)
                note, sidecar, ranked = f"{outcome.note}; without it {without}", None, None
            about = {"status": outcome.status, "note": note, "rankings": ranked}
            self.store.write(self.points.accuracy(cell, search), values, sidecar, **about)
        return complete

    def time_round(self, cell: Cell, index: dict, number: int) -> bool:
        """Times a cell once, at all settings of its search knobs, in all modes; False when that failed."""
        request = {
            "folder": index["folder"],
            "queries": self.points.sampled_query_request(cell),
            "search": cell.searches,
            "modes": self.points.modes,
            "depth": self.grid.depth,
            "seconds": self.grid.seconds,
            "batch_seconds": self.grid.batch_seconds,
            "min_batch": getattr(self.grid.min_batch, self.gallery.kind),
        }
        outcome, _ = self._job(cell, f"round-{number}", "timing", request)
        timed = [point for point in self.points.of(cell) if point.batch_mode]
        return self._record_failure(cell, f"round {number + 1}", outcome, timed)

    def write_timing(self, cell: Cell) -> None:
        """Writes the rounds of a cell: median and range of the rates, percentiles over all latencies.

        At the first setting of the search knobs also the cold start, and the latency of some single queries, each with
        the postings that it touches: whether an engine reads all of them or skips some shows in no percentile.
        """
        folders = [self._folder(cell) / f"round-{number}" for number in range(self.grid.rounds)]
        rounds = [_answer(folder)["result"] for folder in folders]
        touched = _answer(self._folder(cell) / "accuracy")["result"].get("touched_bytes")
        settings = itertools.product(range(len(cell.searches)), range(len(self.points.modes)))
        for place, (s, m) in enumerate(settings):
            mode, threads = self.points.modes[m]
            passes = [one["passes"][place] for one in rounds]
            rates = [one["qps"] for one in passes]
            values, sidecar = {"qps": float(np.median(rates)), "qps_min": min(rates), "qps_max": max(rates)}, None
            if mode == "single":
                answered = min(one["queries"] for one in passes)
                latency_us = np.stack([load_array(folder / f"latency-{s}-{m}.npz")[:answered] for folder in folders])
                values |= {f"latency_p{p}_us": evaluation.percentile(latency_us, p) for p in (50, 95, 99)}
                if s == 0:
                    values |= {name: float(np.median([one["cold"][name] for one in rounds])) for name in COLD}
                    sidecar = self._latencies(cell, np.median(latency_us, axis=0)) if cell.lexicons else None
            if touched:
                bandwidth = float(np.median([one["bandwidth"][str(threads)] for one in rounds]))
                values["limit_qps"] = bandwidth / touched
            for name in passes[0]["engine_metrics"]:
                values[name] = float(np.median([one["engine_metrics"][name] for one in passes]))
            point, note = self.points.timing(cell, cell.searches[s], mode, threads), _note(passes, threads)
            self.store.write(point, values, sidecar, note=note)

    # --- parts of the steps -------------------------------------------------------------------------------------------

    def _cost(self, cell: Cell, index: dict, search: dict) -> dict[str, float]:
        """Build time, memory and size of an index, without the build of another machine. index, search: of its jobs."""
        values = {"resident_bytes": max(0, search["resident_bytes"])}
        if index["machine_id"] == machine()["machine_id"]:
            built = {name: index[name.removeprefix("build_")] for name in OF_BUILD}
            values |= {name: value for name, value in built.items() if value is not None}
        if engines.get(cell.engine).remote:
            values = {name: value for name, value in values.items() if name not in OF_THIS_PROCESS}
        if index["bytes"] is not None:
            values |= {"index_bytes": index["bytes"], "bytes_per_image": index["bytes"] / cell.count}
        if "touched_bytes" in search:
            values["touched_bytes"] = search["touched_bytes"]
        return values

    def _remarks(self, cell: Cell, index: dict, recall: float) -> str:
        """The note of an accuracy point."""
        inexact = engines.get(cell.engine).exact and recall < 1
        elsewhere = index["machine_id"] != machine()["machine_id"]
        remarks = (
            "declared exact, but not on these vectors" * inexact,
            "its build was not measured here" * elsewhere,
        )
        return "; ".join(filter(None, remarks))

    def _latencies(self, cell: Cell, latency_us: np.ndarray) -> list[dict]:
        """Rows of some single queries, in random order: their latency, and the postings of their lexicons in the index.

        latency_us: (queries,) of the first queries of the sweep in `timed_order`.
        """
        request = {"documents": self.points.document_request(cell)}
        made_from = [request, self.gallery.documents_id, config.code_fingerprint("bench.vectors.impacts")]
        folder = self.home / "sweeps" / f"postings-{config.fingerprint(made_from)}"
        if not (folder / "counts.npz").exists():
            result_of(run_job("postings", request, folder, self.limits), "counting postings")
        counts, places = load_array(folder / "counts.npz"), evenly(len(latency_us), LATENCIES)
        asked = self.points.queries[timed_order(len(self.points.queries))[places]]
        queries, names = vectors_of(self.points.query_request(cell)), self.gallery.queries.ids
        touched = (queries.rows(0, queries.count)[asked] > 0) @ counts
        rows = zip(asked, latency_us[places].tolist(), touched.tolist(), strict=True)
        return [{"query_id": names[query], "latency_us": us, "touched": number} for query, us, number in rows]

    def _rankings(self, ids: np.ndarray, scores: np.ndarray) -> list[dict]:
        names = self.gallery.queries.ids
        return ranking_rows([names[place] for place in self.points.queries], self.gallery.documents.ids, ids, scores)

    def _recall_of(self, cell: Cell) -> Callable[[np.ndarray], float]:
        """A function from ids (Q, depth), found for the queries of the sweep, to the recall of the exact top 10."""
        documents, queries = vectors_of(self.points.document_request(cell)), vectors_of(self.points.query_request(cell))
        sampled = queries.rows(0, queries.count)[self.points.queries[self.points.exact]]
        best, whole = self._best_scores(cell), sampled.dtype.kind == "u"

        def recall(ids: np.ndarray) -> float:
            found = exact.true_scores(documents, sampled, ids[self.points.exact, :JUDGED_RESULTS])
            return exact.recall(found, best, min(JUDGED_RESULTS, cell.count), whole)

        return recall

    def _best_scores(self, cell: Cell) -> np.ndarray:
        """(exact queries, 10) best scores over the vectors of a cell's index, computed once for all engines."""
        places = self.points.queries[self.points.exact]
        request = {
            "documents": self.points.document_request(cell),
            "queries": self.points.query_request(cell) | {"which": places.tolist()},
        }
        code = config.code_fingerprint("bench.engines.exact", "bench.vectors.impacts")
        ids = [self.gallery.documents_id, self.gallery.queries_id, code]
        folder = self.home / "sweeps" / f"exact-{config.fingerprint([request, JUDGED_RESULTS, ids])}"
        if self.force or not (folder / "best.npz").exists():
            outcome = run_job("truth", request | {"depth": JUDGED_RESULTS}, folder, self.limits)
            result_of(outcome, "exact search by brute force")
        return load_array(folder / "best.npz")

    @functools.cached_property
    def relevance(self) -> Relevance | None:
        """None for vectors without qrels."""
        documents, queries = self.gallery.documents, self.gallery.queries
        qrels, is_true = queries.qrels, self.gallery.is_true
        return Relevance(documents, queries, qrels, is_true) if self.gallery.has_qrels else None

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _is_done(self, point: Point) -> bool:
        if self.rankings and not point.batch_mode and self.store.status(point) == "ok":
            return not self.force and self.store.has_rankings(point)
        return not self.force and self.store.has(point)

    def _record_failure(self, cell: Cell, step: str, outcome: Outcome, points: list[Point] | None = None) -> bool:
        """True for an outcome "ok"; else writes it to points (all of the cell) that are not measured yet."""
        if outcome.status == "ok":
            return True
        for point in points or self.points.of(cell):
            if self.force or self.store.status(point) != "ok":
                self.store.write(point, {}, status=outcome.status, note=f"{step}: {outcome.note}")
        return False

    def _job(self, cell: Cell, name: str, job: str, request: dict) -> tuple[Outcome, Path]:
        """Runs a job of a cell, unless an earlier run completed it here with the same code and package versions."""
        folder = self._folder(cell) / name
        measured_with = {name: machine()[name] for name in ("machine_id", "versions")}
        stored, made_from = folder / "outcome.json", config.fingerprint([request, self.points.code, measured_with])
        if stored.exists() and not self.force:
            answer = _answer(folder)
            removed = job == "build" and not Path(answer["result"]["folder"]).exists()  # a broken index, for example
            if answer["made_from"] == made_from and not removed:
                return Outcome(answer["status"], answer["result"], answer["note"]), folder
        log.info("%s %s: %s", cell.engine, cell.knobs or "", name)
        outcome = run_job(job, request, folder, self.limits)
        if outcome.status == "ok":
            write_json(stored, dataclasses.asdict(outcome) | {"made_from": made_from}, seal=True)
        return outcome, folder

    def _folder(self, cell: Cell) -> Path:
        return self.home / "sweeps" / self.points.cell_id(cell)


def take_turns(sweeps: list[tuple[Sweep, list[Cell]]]) -> list[dict[str, float]]:
    """Measures the pending cells of every sweep; within a step, the sweeps take turns index by index.

    Returns for each sweep the seconds that each of `STEPS` took. Raises InputError when exact search itself fails.
    """
    spent = {sweep: Counter({step: 0.0 for step in STEPS}) for sweep, _ in sweeps}

    def each(step: str, turns: list[tuple[Sweep, Cell]], work: Callable, label: str = "") -> list[tuple[Sweep, Cell]]:
        """Does the work of a step and returns the turns that succeeded."""
        sizes = sorted({cell.count for _, cell in turns}) or [0]
        title = f"{', '.join(f'{size:,}' for size in sizes)}: {label or step}"
        succeeded = []
        for sweep, cell in cli.progress(turns, desc=title, unit="index"):
            began = time.perf_counter()
            if work(sweep, cell):
                succeeded.append((sweep, cell))
            spent[sweep][step] += time.perf_counter() - began
        return succeeded

    def build(sweep: Sweep, cell: Cell) -> bool:
        indexes[sweep, cell] = sweep.build(cell)
        return indexes[sweep, cell] is not None

    indexes: dict[tuple[Sweep, Cell], dict | None] = {}
    columns = itertools.zip_longest(*([(sweep, cell) for cell in sweep.pending(cells)] for sweep, cells in sweeps))
    turns = each("build", [turn for column in columns for turn in column if turn], build)
    turns = each("accuracy", turns, lambda sweep, cell: sweep.measure_accuracy(cell, indexes[sweep, cell]))
    rounds = sweeps[0][0].grid.rounds if sweeps else 0
    for number in range(rounds):
        time_once = lambda sweep, cell, number=number: sweep.time_round(cell, indexes[sweep, cell], number)  # noqa: E731
        turns = each("rounds", turns, time_once, f"round {number + 1} of {rounds}")
    for sweep, cell in turns:
        sweep.write_timing(cell)
    return [dict(spent[sweep]) for sweep, _ in sweeps]


def _answer(folder: Path) -> dict:
    """The stored outcome of a job. Raises BrokenFileError that names the folder."""
    return read_json(folder / "outcome.json", f"remove {folder} to run its job again")


def _note(passes: list[dict], threads: int) -> str:
    """The load of the machine, range of rates and queries per round, and physical cores, of one setting."""
    rates, answered = [one["qps"] for one in passes], min(one["queries"] for one in passes)
    note = f"median of {len(rates)} rounds, {min(rates):.4g} to {max(rates):.4g} queries/s; {answered} queries a round"
    loaded = note_of_other_work(max(one["other_cores"] for one in passes))
    remote = passes[0]["remote"] and f"{passes[0]['remote']}, whose other load is not measured"
    return "; ".join(filter(None, (loaded, note, remote or cores_note(threads))))
