"""Records of `python -m bench.scale` as the report reads them: ways of searching a gallery, each with its quality, its size and its rates.

Notable choices
- A sweep is what one machine measured of one corpus. Numbers of two machines never meet in a table, a figure or a ratio.
- Quality and size are one point, every rate is another; they are joined when they are of the same index. Of what was measured twice, the newest.
- An engine that is absent, failed or ran out of time or memory is a way of searching too: its cells say how it ended.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.findings import paired
from reports.findings.verdict import EQUAL_RECALL
from reports.records.evidence import Evidence, ended, parsed
from reports.render.tables import NOT_A_NUMBER, NOT_MEASURED, Cell, integer

TASK = "scale"
ENCODED_CONTROL = (
    "encoded_control"  # encoded vectors, searched in the rounds of the generated ones that were made after them
)
CEILING = "dummy"  # an engine that answers at once: its QPS is what the harness itself can reach
IDENTITY = ["images", "kind", "variant", "engine", "knobs", "top_k", "bits"]
MEASURED = ["started", "point_id"]  # the order in which points were measured
OF_VECTORS = ("query_top_k", "scale", "shards")  # in a record's knobs beside those of the engine
KINDS = ("lexicon", "dense")
MODES = {"single": "one query at a time", "batched": "in batches"}
SYNTHETIC = "synthetic:"


class Call(NamedTuple):
    """How queries are put: `mode` single or batched."""

    mode: str
    threads: int

    @property
    def key(self) -> str:
        """The name of a column."""
        return f"{self.mode} {self.threads}"

    @property
    def short(self) -> str:
        return f"{self.mode}, {self.threads}"

    @property
    def label(self) -> str:
        return f"{MODES[self.mode]}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Measured:
    """One point: its values by metric, or how it ended."""

    point_id: str
    status: str
    note: str
    values: dict[str, float]

    @property
    def problem(self) -> str:
        return "" if self.status == "ok" else ended(self.status, self.note)

    def cell(self, metric: str) -> Cell:
        value = self.values.get(metric)
        if self.problem or value is None:
            return Cell(missing=self.problem or NOT_MEASURED)
        return Cell(value, n=self.note, points=(self.point_id,)) if np.isfinite(value) else Cell(missing=NOT_A_NUMBER)


@dataclass(frozen=True, eq=False)
class Search:
    """One way of searching one gallery. `top_k`, `query_top_k`, `bits`: None = all, float32; `shards`: None = one index; `knobs`: those of the engine, in words."""

    images: int
    kind: str
    variant: str
    engine: str
    top_k: int | None = None
    bits: int | None = None
    query_top_k: int | None = None
    shards: int | None = None
    knobs: str = ""
    exact: bool = False
    accuracy: Measured | None = None
    calls: dict[Call, Measured] = field(default_factory=dict)

    @property
    def setting(self) -> tuple:
        """What stays the same as the gallery grows."""
        return self.kind, self.variant, self.engine, self.top_k, self.bits, self.query_top_k, self.knobs

    @property
    def label(self) -> str:
        top_k = f"{self.top_k} kept" if self.top_k else "all kept" if self.kind == "lexicon" else ""
        asked = f"{self.query_top_k} in the query" if self.query_top_k else ""
        bits = f"{self.bits} bits" if self.bits else ""
        return ", ".join(part for part in (f"{self.engine} {self.knobs}".strip(), top_k, bits, asked) if part)

    @property
    def name(self) -> str:
        """The engine and the lexicons kept, without its other settings."""
        return f"{self.engine}, {self.top_k} kept" if self.top_k else self.engine

    @property
    def recall(self) -> float | None:
        """R@1 of the task, None where it was not measured."""
        return self._value("recall@1")

    @property
    def quality(self) -> float | None:
        """R@1; where no task was measured, recall of the engine against exact search."""
        return self._value("engine_recall@10") if self.recall is None else self.recall

    @property
    def bytes_per_image(self) -> float | None:
        return self._value("bytes_per_image")

    @property
    def problem(self) -> str:
        """How the first of its points that did not end well ended."""
        return next((one.problem for one in self._points() if one.problem), "")

    def cell(self, metric: str) -> Cell:
        """A metric of quality or size."""
        return self.accuracy.cell(metric) if self.accuracy else Cell(missing=self.problem or NOT_MEASURED)

    def timed(self, call: Call, metric: str = "qps") -> Cell:
        return self.calls[call].cell(metric) if call in self.calls else Cell(missing=self.problem or NOT_MEASURED)

    def rate(self, call: Call) -> float | None:
        """Queries per second, None where they were not measured."""
        value = self.timed(call).value
        return value if value and value > 0 else None

    def _value(self, metric: str) -> float | None:
        return self.cell(metric).value

    def _points(self) -> Iterable[Measured]:
        return [one for one in (self.accuracy, *self.calls.values()) if one]


@dataclass(frozen=True, eq=False)
class Sweep:
    """`statistics`: of lexicon vectors by (variant, size), `fitted`: of those that generated ones were made after; `satisfying`: false negatives by size;
    `encoding`: of one text by (variant, threads). `checkpoints`: of the vectors, or of those that generated ones were made after.

    `place` tells the sweeps of a page apart. `beside`: searched in the rounds of generated vectors.
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
    beside: bool = False
    evidence: Evidence | None = None

    @property
    def sizes(self) -> list[int]:
        return sorted({search.images for search in self.searches})

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    @property
    def judged(self) -> bool:
        """Whether a task was measured: there is none of generated vectors."""
        return any(search.recall is not None for search in self.searches)

    @property
    def fitted_to(self) -> str:
        """The corpus whose vectors these were generated after, "" when they were encoded."""
        return self.corpus.removeprefix(SYNTHETIC).partition(":")[0] if self.corpus.startswith(SYNTHETIC) else ""

    @property
    def stretched_to(self) -> str:
        """The lexicons that their vocabulary was stretched to, "" where it was not."""
        return self.corpus.removeprefix(SYNTHETIC).partition(":")[2] if self.fitted_to else ""

    @property
    def title(self) -> str:
        return f"{self.corpus or 'unknown corpus'}, {integer(self.largest)} images, {self.machine}"

    def named(self, name: str) -> str:
        """The name of a table or figure of this sweep."""
        return name if self.place == 1 else f"{name}_{self.place}"

    def at(self, images: int, kind: str | None = None) -> list[Search]:
        """The ways of searching a gallery, without the harness's ceiling."""
        found = [search for search in self.searches if search.images == images and search.engine != CEILING]
        return [search for search in found if kind in (None, search.kind)]

    def calls(self, images: int | None = None) -> list[Call]:
        """One query at a time first, then by threads."""
        found = {call for search in self.searches if images in (None, search.images) for call in search.calls}
        return sorted(found, key=lambda call: (call.mode != "single", call.threads))

    def call(self, mode: str) -> Call | None:
        """The call that stands for a mode: single queries with the fewest threads, batches with the most."""
        found = [call for call in self.calls() if call.mode == mode]
        return (found[0] if mode == "single" else found[-1]) if found else None

    def as_good(self, one: Search, other: Search) -> bool:
        """Whether the R@1 of `one` is no lower: not at all, or by less than `EQUAL_RECALL` and by no more than chance.

        Chance: an exact paired test over the queries (`reports.statistics.sign_flip`) does not tell the two apart. Where the two were not asked the same
        queries, or the results of each were not kept, only what is at least as high is as good.
        """
        if one.recall is None or other.recall is None:
            return False
        if one.recall >= other.recall:
            return True
        if other.recall - one.recall >= EQUAL_RECALL:
            return False
        test = paired.test(self.evidence, one.accuracy.point_id, other.accuracy.point_id)
        return test is not None and (test.p is None or test.p >= self.evidence.reading.significant)

    def recall_cell(self, search: Search) -> Cell:
        """R@1 with its bootstrap interval, where the results of each query were kept."""
        cell = search.cell("recall@1")
        estimate = self.evidence.interval(cell.points, "recall@1") if self.evidence and cell.points else None
        if estimate is None:
            return cell
        return replace(
            cell, low=estimate.low, high=estimate.high, n=f"{estimate.queries:,} queries on {estimate.groups:,} images"
        )

    def vectors(self, images: int | None = None) -> list[str]:
        """What the lexicon vectors of a gallery are like, a sentence for each model: it decides what an index of them costs."""
        images = images or self.largest
        return [
            in_words(variant, measured.values)
            for (variant, size), measured in sorted(self.statistics.items())
            if size == images
        ]


def in_words(variant: str, values: dict[str, float]) -> str:
    """Vocabulary, skew and active lexicons in a sentence."""
    parts = (
        ("vectors_dimension", "vocabulary of {:,.0f} lexicons"), ("vectors_lexicons_used", "{:,.0f} of them used"),
        ("vectors_zipf_exponent", "Zipf exponent {:.2f}"), ("vectors_active_mean", "{:.1f} lexicons per image before pruning"),
        ("vectors_query_active_mean", "{:.1f} per query"),
    )  # fmt: skip
    said = ", ".join(text.format(values[name]) for name, text in parts if name in values)
    return f"Lexicon vectors{f' of {variant}' if variant else ''}: {said}."


@functools.lru_cache(maxsize=8)
def sweeps(evidence: Evidence) -> list[Sweep]:
    """Every sweep of the records, those of the page's own corpus first, then the larger."""
    found = _found(evidence, TASK)
    found.sort(key=lambda sweep: (sweep.corpus != evidence.corpus, -sweep.largest, sweep.corpus, sweep.machine_id))
    return [replace(sweep, place=place) for place, sweep in enumerate(found, 1)]


@functools.lru_cache(maxsize=8)
def twins(evidence: Evidence) -> list[Sweep]:
    """Of encoded vectors that were searched beside generated ones."""
    return _found(evidence, ENCODED_CONTROL)


def _found(evidence: Evidence, task: str) -> list[Sweep]:
    rows = pd.concat([evidence.rows, evidence.generated])
    mine = rows[(rows.task == task) & rows.images.notna()]
    return [
        replace(_sweep(rows, task, *key), evidence=evidence)
        for key, _ in mine.groupby(["profile", "corpus", "machine_id"])
    ]


def chosen(sweep: Sweep) -> list[Search]:
    """One setting of each engine, at every size it was measured at: that measured at most sizes; of equals the one with the highest R@1 at the
    largest of them, then the fastest. The ceiling is not among them."""
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
    return [search for _, found in sorted(best.values(), key=lambda one: _order(one[1][0])) for search in found]


def ordered(searches: Iterable[Search]) -> list[Search]:
    """Lexicon engines first, each with its settings in order."""
    none_last = lambda value: (value is None, value or 0)  # noqa: E731
    return sorted(
        searches,
        key=lambda s: (
            *_order(s),
            none_last(s.top_k),
            none_last(s.bits),
            none_last(s.query_top_k),
            s.recall or 0,
            s.knobs,
        ),
    )


def _order(search: Search) -> tuple:
    return (
        KINDS.index(search.kind) if search.kind in KINDS else len(KINDS),
        search.variant,
        search.engine != "impact",
        search.engine,
    )


def _sweep(rows: pd.DataFrame, task: str, profile: str, corpus: str, machine_id: str) -> Sweep:
    mine = rows[(rows.profile == profile) & (rows.corpus == corpus)]
    scale = mine[(mine.task == task) & (mine.machine_id == machine_id) & mine.images.notna()]
    made = Sweep(profile, corpus, machine_id, machine_of(scale), [], beside=task == ENCODED_CONTROL)
    # Facts of vectors and pictures hold on any machine, times on this one; generated vectors have the encoder of those they were made after.
    vectors = mine[(mine.task == "vectors") & mine.vectors_id.isin(scale.vectors_id)]
    satisfying = mine[(mine.task == "false_negatives") & mine.data_id.isin(scale.data_id)]
    encoded = rows[
        (rows.profile == profile) & (rows.corpus == (made.fitted_to or corpus)) & (rows.machine_id == machine_id)
    ]
    encoded = encoded[
        (encoded.task == "encoding")
        & (encoded.batch_mode == "single")
        & encoded.checkpoint_id.isin(scale.checkpoint_id)
    ]
    fitted = rows[(rows.profile == profile) & (rows.corpus == made.fitted_to) & (rows.task == "vectors")]
    fitted = fitted[fitted.checkpoint_id.isin(scale.checkpoint_id) & bool(made.fitted_to)]
    return replace(
        made,
        searches=ordered(searches_of(scale)),
        statistics=_statistics(vectors),
        fitted=_statistics(fitted),
        satisfying={int(images): _newest(group) for images, group in satisfying.groupby("images")},
        encoding={
            (variant, int(threads)): _newest(group)
            for (variant, threads), group in encoded.groupby(["variant", "threads"])
        },
        checkpoints=frozenset(scale.checkpoint_id) - {""},
        commands=tuple(dict.fromkeys(command for command in scale.sort_values("started").command if command)),
    )


def machine_of(rows: pd.DataFrame) -> str:
    """The machine of the newest row, in words."""
    last = rows.sort_values("started").iloc[-1]
    cores = "" if last.cores != last.cores else f", {last.cores:.0f} core{'s' if last.cores > 1 else ''}"
    memory = "" if last.memory_gb != last.memory_gb else f", {last.memory_gb:.0f} GiB"
    return f"{last.cpu or 'unknown CPU'}{cores}{memory}{f', {last.gpu}' if last.gpu else ''}"


def _statistics(rows: pd.DataFrame) -> dict[tuple[str, int], Measured]:
    return {(variant, int(images)): _newest(group) for (variant, images), group in rows.groupby(["variant", "images"])}


def searches_of(rows: pd.DataFrame) -> list[Search]:
    """The ways of searching that rows of one machine, corpus and profile measured."""
    found = []
    for key, group in rows.sort_values(MEASURED).groupby(IDENTITY, dropna=False, sort=False):
        identity = dict(zip(IDENTITY, key, strict=True))
        knobs = parsed(identity.pop("knobs"))
        knobs = knobs if isinstance(knobs, dict) else {}
        group = group[group.index_id == group.index_id.iloc[-1]]
        points = {called: _last(of_call) for called, of_call in group.groupby(["batch_mode", "threads"], dropna=False)}
        calls = {
            Call(mode, int(threads)): point
            for (mode, threads), point in points.items()
            if mode in MODES and threads == threads
        }
        found.append(
            Search(
                images=int(identity.pop("images")),
                **{name: _whole(identity.pop(name)) for name in ("top_k", "bits")},
                **identity,
                query_top_k=_whole(knobs.get("query_top_k")),
                shards=_whole(knobs.get("shards")),
                knobs=" ".join(
                    f"{name}={value}"
                    for name, value in sorted(knobs.items())
                    if name not in OF_VECTORS and value is not None
                ),
                exact=str(group.exact.iloc[-1]) == "True",
                accuracy=next((point for (mode, _), point in points.items() if mode == ""), None),
                calls=calls,
            )
        )
    return found


def _newest(rows: pd.DataFrame) -> Measured:
    return _last(rows.sort_values(MEASURED))


def _last(rows: pd.DataFrame) -> Measured:
    """The last point of rows that are in the order of `MEASURED`."""
    point_id, status, note = (rows[name].iat[-1] for name in ("point_id", "status", "note"))
    metrics, values = rows.metric.to_numpy(), rows.value.to_numpy()
    mine = (rows.point_id.to_numpy() == point_id) & (metrics != "") & ~np.isnan(values)
    return Measured(point_id, status, note, dict(zip(metrics[mine], values[mine].tolist(), strict=True)))


def _whole(value) -> int | None:
    return None if value is None or pd.isna(value) else int(value)
