"""One search: an engine with its settings over one gallery, its quality, its size and its rates."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from reports.render.tables import NOT_MEASURED, Cell

KINDS = ("lexicon", "dense")
MODES = {"single": "one query at a time", "batched": "in batches"}


class Call(NamedTuple):
    """How queries are submitted: `mode` "single" or "batched", and the number of threads (None: not recorded)."""

    mode: str
    threads: int | None

    @property
    def key(self) -> str:
        """Prefix of column keys."""
        return f"{self.mode} {self.threads}"

    @property
    def short(self) -> str:
        return f"{self.mode}, {self.threads}"

    @property
    def label(self) -> str:
        return f"{MODES[self.mode]}, {self.threads or '?'} thread{'' if self.threads == 1 else 's'}"

    @property
    def order(self) -> tuple:
        """Sort key: single queries first, then by threads."""
        return self.mode != "single", self.threads or 0


@dataclass(frozen=True)
class Measured:
    """Cells of one measurement by metric. `problem`: how it ended, if not well; `point_id`: "" for means over seeds."""

    cells: dict[str, Cell]
    problem: str = ""
    note: str = ""
    point_id: str = ""

    def cell(self, metric: str) -> Cell:
        return self.cells.get(metric) or Cell(missing=self.problem or NOT_MEASURED)


@dataclass(frozen=True, eq=False)
class Search:
    """One search of one gallery.

    top_k, query_top_k: lexicons kept per image and per query (None: all). bits: of the impacts (None: float32).
    shards: None for one index. knobs: settings of the engine, as "name=value" words. exact: whether the engine claims
    to return the true top k. machine_id: "" if not timed. accuracy: quality and size. calls: rates and latencies.
    """

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
    queries: int | None = None
    machine_id: str = ""
    accuracy: Measured | None = None
    calls: dict[Call, Measured] = field(default_factory=dict)

    @property
    def setting(self) -> tuple:
        """What stays the same as the gallery grows."""
        return self.kind, self.variant, self.engine, self.top_k, self.bits, self.query_top_k, self.knobs

    @property
    def label(self) -> str:
        """Engine, knobs, top-k, bits and shards in words."""
        top_k = f"top-{self.top_k}" if self.top_k else "all lexicons" if self.kind == "lexicon" else ""
        query = f"query top-{self.query_top_k}" if self.query_top_k else ""
        bits = f"{self.bits} bits" if self.bits else ""
        shards = f"{self.shards} shards" if self.shards else ""
        return ", ".join(part for part in (f"{self.engine} {self.knobs}".strip(), top_k, bits, query, shards) if part)

    @property
    def recall(self) -> float | None:
        """R@1 of the task; None if not measured."""
        return self.cell("recall@1").value

    @property
    def quality(self) -> float | None:
        """R@1; if no task was measured, recall@10 of the engine against exact search."""
        return self.cell("engine_recall@10").value if self.recall is None else self.recall

    @property
    def bytes_per_image(self) -> float | None:
        return self.cell("bytes_per_image").value

    @property
    def measurements(self) -> list[Measured]:
        """Quality first, then every call."""
        return [one for one in (self.accuracy, *self.calls.values()) if one]

    @property
    def problem(self) -> str:
        """How the first measurement that did not end well ended; "" if all did."""
        return next((one.problem for one in self.measurements if one.problem), "")

    def cell(self, metric: str) -> Cell:
        """A metric of quality or size."""
        return self.accuracy.cell(metric) if self.accuracy else Cell(missing=self.problem or NOT_MEASURED)

    def timed(self, call: Call, metric: str = "qps") -> Cell:
        """A rate or latency of a call."""
        return self.calls[call].cell(metric) if call in self.calls else Cell(missing=self.problem or NOT_MEASURED)

    def rate(self, call: Call) -> float | None:
        """Queries per second; None if not measured."""
        value = self.timed(call).value
        return value if value and value > 0 else None

    def points(self, call: Call | None = None) -> tuple[str, ...]:
        """Ids of the records of R@1, and of the rate of a call."""
        rates = self.timed(call).points if call else ()
        accuracy = self.accuracy.point_id if self.accuracy else ""
        return tuple(dict.fromkeys((*([accuracy] if accuracy else self.cell("recall@1").points), *rates)))


def ordered(searches: Iterable[Search]) -> list[Search]:
    """Lexicon engines first, `impact` before others, then by settings."""
    none_last = lambda value: (value is None, value or 0)  # noqa: E731
    numbers = lambda s: [none_last(value) for value in (s.top_k, s.bits, s.query_top_k)]  # noqa: E731
    return sorted(searches, key=lambda s: (*engine_order(s), *numbers(s), s.recall or 0, s.knobs))


def engine_order(search: Search) -> tuple:
    """Sort key of the engine of a search."""
    kind = KINDS.index(search.kind) if search.kind in KINDS else len(KINDS)
    return kind, search.variant, search.engine != "impact", search.engine


def calls_of(searches: Iterable[Search]) -> list[Call]:
    """Every call of the searches, in order."""
    return sorted({call for search in searches for call in search.calls}, key=lambda call: call.order)
