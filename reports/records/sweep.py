"""Sweeps: records of `bench.scale` as searches over galleries of growing size.

- A sweep is what one machine measured of one corpus. Numbers of two machines never meet in a table or a ratio.
- Quality and size are one point, each rate is another; they are joined if they are of the same index. Of repeated
  measurements the newest counts.
- An engine that is absent, failed or ran out of time or memory is a search too: its cells say how it ended.
"""

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from reports.records.corpora import SYNTHETIC, fitted_to
from reports.records.evidence import Evidence
from reports.records.rows import parsed, whole
from reports.records.search import MODES, Call, Measured, Search, calls_of, engine_order, ordered
from reports.render.tables import NOT_A_NUMBER, NOT_MEASURED, Cell, ended, integer

TASK = "scale"
ENCODED_CONTROL = "encoded_control"  # encoded vectors, searched in the same rounds as vectors generated after them
CEILING = "dummy"  # an engine that answers at once with nothing: its QPS is the ceiling of the harness
IDENTITY = ["images", "kind", "variant", "engine", "knobs", "top_k", "bits"]
MEASURED = ["started", "point_id"]  # sort order, oldest first
OF_VECTORS = ("query_top_k", "scale", "query_scale", "shards")  # entries of `knobs` that are not settings of the engine


@dataclass(frozen=True, eq=False)
class Sweep:
    """Searches of one machine over one corpus.

    statistics: of the lexicon vectors, by (variant, images). fitted: of the vectors that generated ones were fitted to.
    satisfying: false negatives by images. encoding: of one text, by (variant, threads). checkpoints: of the vectors.
    place: number of the sweep in the report, 1 first. control: searched in the same rounds as generated vectors.
    """

    profile: str
    corpus: str
    machine_id: str
    machine: str
    searches: list[Search]
    statistics: dict[tuple[str, int], Measured] = field(default_factory=dict)
    fitted: dict[tuple[str, int], Measured] = field(default_factory=dict)
    satisfying: dict[int, Measured] = field(default_factory=dict)
    encoding: dict[tuple[str, int], Measured] = field(default_factory=dict)
    checkpoints: frozenset[str] = frozenset()
    commands: tuple[str, ...] = ()
    place: int = 1
    control: bool = False
    evidence: Evidence | None = None

    @property
    def sizes(self) -> list[int]:
        """Gallery sizes in images, ascending."""
        return sorted({search.images for search in self.searches})

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    @property
    def has_task(self) -> bool:
        """Whether R@K was measured; generated vectors have no task."""
        return any(search.recall is not None for search in self.searches)

    @property
    def fitted_to(self) -> str:
        """The corpus whose vectors these were fitted to, or "" for encoded vectors."""
        return fitted_to(self.corpus)

    @property
    def stretched_to(self) -> str:
        """Size of a stretched vocabulary, or "" if it was not stretched."""
        return self.corpus.removeprefix(SYNTHETIC).partition(":")[2] if self.fitted_to else ""

    @property
    def title(self) -> str:
        return f"{self.corpus or 'unknown corpus'}, {integer(self.largest)} images, {self.machine}"

    def named(self, name: str) -> str:
        """Name of a table or figure of this sweep."""
        return name if self.place == 1 else f"{name}_{self.place}"

    def at(self, images: int, kind: str | None = None) -> list[Search]:
        """Searches of a gallery, without the ceiling of the harness."""
        found = [search for search in self.searches if search.images == images and search.engine != CEILING]
        return [search for search in found if kind in (None, search.kind)]

    def calls(self, images: int | None = None) -> list[Call]:
        """Calls that were timed, single queries first."""
        return calls_of(search for search in self.searches if images in (None, search.images))

    def call(self, mode: str) -> Call | None:
        """The call that represents a mode: single queries with the fewest threads, batches with the most."""
        found = [call for call in self.calls() if call.mode == mode]
        return (found[0] if mode == "single" else found[-1]) if found else None

    def recall_cell(self, search: Search) -> Cell:
        """R@1 with its interval over images, if per-query results were kept."""
        cell = search.cell("recall@1")
        estimate = self.evidence.interval(cell.points, "recall@1") if self.evidence and cell.points else None
        if estimate is None:
            return cell
        n = f"{estimate.queries:,} queries on {estimate.groups:,} images"
        return replace(cell, low=estimate.low, high=estimate.high, n=n)

    def encoding_cell(self, search: Search, call: Call) -> Cell:
        """Median time in which the model of a search encodes one text, in microseconds."""
        encoded = self.encoding.get((search.variant, call.threads))
        return encoded.cell("encode_text_latency_p50_us") if encoded else Cell(missing=NOT_MEASURED)

    def by_setting(self) -> list[list[Search]]:
        """One setting of each engine as `chosen`: its searches, smallest gallery first."""
        found: dict[tuple, list[Search]] = {}
        for search in chosen(self):
            found.setdefault(search.setting, []).append(search)
        return list(found.values())


@functools.lru_cache(maxsize=8)
def sweeps(evidence: Evidence) -> list[Sweep]:
    """Every sweep of the records: those of the report's own corpus first, then the largest first."""
    found = _found(evidence, TASK)
    found.sort(key=lambda sweep: (sweep.corpus != evidence.corpus, -sweep.largest, sweep.corpus, sweep.machine_id))
    return [replace(sweep, place=place) for place, sweep in enumerate(found, 1)]


@functools.lru_cache(maxsize=8)
def encoded_controls(evidence: Evidence) -> list[Sweep]:
    """Searches of encoded vectors in the same rounds as generated ones."""
    return _found(evidence, ENCODED_CONTROL)


def chosen(sweep: Sweep) -> list[Search]:
    """One setting of each engine, at every size it was measured at, without the ceiling.

    The setting measured at most sizes; among ties the highest R@1 at the largest, then the fastest.
    """
    by_setting: dict[tuple, list[Search]] = {}
    for search in sorted(sweep.searches, key=lambda search: search.images):
        if search.engine != CEILING:
            by_setting.setdefault(search.setting, []).append(search)
    best: dict[tuple, tuple] = {}
    for setting, found in by_setting.items():
        rates = [rate for call in sweep.calls() if (rate := found[-1].rate(call))]
        worth = sum(search.quality is not None for search in found), found[-1].quality or 0.0, max(rates, default=0.0)
        engine = setting[:3]
        if engine not in best or worth > best[engine][0]:
            best[engine] = worth, found
    return [search for _, found in sorted(best.values(), key=lambda one: engine_order(one[1][0])) for search in found]


def searches_of(rows: pd.DataFrame) -> list[Search]:
    """Searches among rows of one machine, corpus and profile."""
    found = []
    for key, group in rows.sort_values(MEASURED).groupby(IDENTITY, dropna=False, sort=False):
        identity = dict(zip(IDENTITY, key, strict=True))
        knobs = parsed(identity.pop("knobs"))
        knobs = knobs if isinstance(knobs, dict) else {}
        group = group[group.index_id == group.index_id.iloc[-1]]
        points = {called: last(of_call) for called, of_call in group.groupby(["batch_mode", "threads"], dropna=False)}
        accuracy = group[group.batch_mode == ""]
        found.append(
            Search(
                images=int(identity.pop("images")),
                **{name: whole(identity.pop(name)) for name in ("top_k", "bits")},
                **identity,
                query_top_k=whole(knobs.get("query_top_k")),
                shards=whole(knobs.get("shards")),
                knobs=knobs_in_words(knobs),
                exact=str(group.exact.iloc[-1]) == "True",
                queries=whole(accuracy.queries.iloc[-1]) if len(accuracy) else None,
                machine_id=group.machine_id.iloc[-1],
                accuracy=next((point for (mode, _), point in points.items() if mode == ""), None),
                calls={
                    Call(mode, int(threads)): point
                    for (mode, threads), point in points.items()
                    if mode in MODES and threads == threads
                },
            )
        )
    return found


def knobs_in_words(knobs: dict) -> str:
    """Settings of an engine as "name=value" words."""
    shown = {name: value for name, value in knobs.items() if name not in OF_VECTORS and value is not None}
    return " ".join(f"{name}={shown[name]}" for name in sorted(shown))


def machine_of(rows: pd.DataFrame) -> str:
    """CPU, cores, memory and GPU of the newest row, in words."""
    last = rows.sort_values("started").iloc[-1]
    cores = "" if last.cores != last.cores else f", {last.cores:.0f} core{'s' if last.cores > 1 else ''}"
    memory = "" if last.memory_gb != last.memory_gb else f", {last.memory_gb:.0f} GiB"
    return f"{last.cpu or 'unknown CPU'}{cores}{memory}{f', {last.gpu}' if last.gpu else ''}"


def _found(evidence: Evidence, task: str) -> list[Sweep]:
    rows = pd.concat([evidence.rows, evidence.generated])
    mine = rows[(rows.task == task) & rows.images.notna()]
    groups = mine.groupby(["profile", "corpus", "machine_id"])
    return [replace(_sweep(rows, task, *key), evidence=evidence) for key, _ in groups]


def _sweep(rows: pd.DataFrame, task: str, profile: str, corpus: str, machine_id: str) -> Sweep:
    """Statistics of vectors and images hold on any machine; times only on this one."""
    of_profile = rows[rows.profile == profile]
    mine, on_machine = of_profile[of_profile.corpus == corpus], of_profile[of_profile.machine_id == machine_id]
    scale = mine[(mine.task == task) & (mine.machine_id == machine_id) & mine.images.notna()]
    made = Sweep(profile, corpus, machine_id, machine_of(scale), [], control=task == ENCODED_CONTROL)
    vectors = mine[(mine.task == "vectors") & mine.vectors_id.isin(scale.vectors_id)]
    satisfying = mine[(mine.task == "false_negatives") & mine.data_id.isin(scale.data_id)]
    encoded = on_machine[on_machine.corpus == (made.fitted_to or corpus)]  # generated vectors share the encoder
    encoded = encoded[(encoded.task == "encoding") & (encoded.batch_mode == "single")]
    encoded = encoded[encoded.checkpoint_id.isin(scale.checkpoint_id)]
    fitted = of_profile[(of_profile.corpus == made.fitted_to) & (of_profile.task == "vectors")]
    fitted = fitted[fitted.checkpoint_id.isin(scale.checkpoint_id) & bool(made.fitted_to)]
    return replace(
        made,
        searches=ordered(searches_of(scale)),
        statistics=_newest_by(vectors, "images"),
        fitted=_newest_by(fitted, "images"),
        satisfying={int(images): _newest(group) for images, group in satisfying.groupby("images")},
        encoding=_newest_by(encoded, "threads"),
        checkpoints=frozenset(scale.checkpoint_id) - {""},
        commands=tuple(dict.fromkeys(command for command in scale.sort_values("started").command if command)),
    )


def _newest_by(rows: pd.DataFrame, column: str) -> dict[tuple[str, int], Measured]:
    return {(variant, int(value)): _newest(group) for (variant, value), group in rows.groupby(["variant", column])}


def _newest(rows: pd.DataFrame) -> Measured:
    return last(rows.sort_values(MEASURED))


def last(rows: pd.DataFrame) -> Measured:
    """The last point of rows sorted by `MEASURED`; NaN values are left out."""
    point_id, status, note = (rows[name].iat[-1] for name in ("point_id", "status", "note"))
    if status != "ok":
        return Measured({}, ended(status, note), note, point_id)
    metrics, values = rows.metric.to_numpy(), rows.value.to_numpy()
    mine = (rows.point_id.to_numpy() == point_id) & (metrics != "") & ~np.isnan(values)
    cells = {
        metric: Cell(value, n=note, points=(point_id,)) if np.isfinite(value) else Cell(missing=NOT_A_NUMBER)
        for metric, value in zip(metrics[mine], values[mine].tolist(), strict=True)
    }
    return Measured(cells, "", note, point_id)
