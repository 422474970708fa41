"""Differences between two sets of records: points matched by what was measured, and how each metric changed.

- A point is the same measurement regardless of commit, code and machine. Points of the same machine and data are
  compared if both sides have them; otherwise the newest of each side. Of repeated measurements on one machine, the
  newest counts.
- Quality is judged by the exact paired test over queries (`reports.statistics.sign_flip`), with Holm's correction over
  all comparisons in which any query differs: the others cannot be significant, so they do not count (Tarone, 1990).
- Sizes are exact: a ratio beyond the tolerance is a change.
- Rates, times and memory are shown but not judged, and never compared across machines.
- Points measured on other data are not compared.
"""

import collections
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.store.metrics import METRICS
from reports.records.evidence import Evidence
from reports.records.rows import parsed, per_query, whole
from reports.records.search import Call, Search
from reports.records.sweep import knobs_in_words
from reports.render.tables import NOT_A_NUMBER, NOT_MEASURED, ended, integer
from reports.statistics import corrections, intervals, sign_flip

WHAT = (
    "task", "profile", "corpus", "split", "images", "direction", "variant", "seed", "step",
    "kind", "engine", "knobs", "top_k", "bits", "batch_mode", "threads",
)  # fmt: skip
SAME, BETTER, WORSE, NOT_JUDGED = "same", "better", "worse", "not judged"
ONLY_A, ONLY_B, OTHER_MACHINE, OTHER_DATA = "only in A", "only in B", "other machine", "other data"
QUALITY, SIZE, SPEED, OTHER = "quality", "size", "speed", "other"
SIZES = ("index_bytes", "bytes_per_image", "vectors_bytes")  # of files: identical each time they are made
MEMORY = ("resident_bytes", "build_peak_bytes", "head_peak_bytes")
TREC = "trec_"  # counts the hits of R@K again, and would be tested twice
RATES = ("queries/s", "images/s", "texts/s", "pairs/s", "s", "us")


@dataclass(frozen=True)
class Change:
    """One metric of one point.

    metric: "" for a point of one side only. why: how the other side ended, or why nothing was judged. difference: B
    minus A over the queries that both answered, with its interval. p: after Holm's correction; None if nothing was
    tested.
    """

    what: str
    metric: str
    kind: str
    verdict: str
    a: float | None = None
    b: float | None = None
    difference: intervals.Estimate | None = None
    p: float | None = None
    why: str = ""
    notes: tuple[str, ...] = ()
    points: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """B / A; None if the two cannot be compared."""
        comparable = self.a and self.b is not None and self.verdict not in (OTHER_MACHINE, OTHER_DATA)
        return self.b / self.a if comparable else None


@dataclass(frozen=True)
class _Point:
    """A recorded point: `first` is one of its rows, `values` its metrics."""

    first: object
    values: dict[str, float]

    @property
    def failed(self) -> str:
        return "" if self.first.status == "ok" else ended(self.first.status, self.first.note)


def changes(a: Evidence, b: Evidence, tolerance: float, level: float) -> list[Change]:
    """Every metric of every point of two sets of records, sorted by what was measured.

    tolerance: share by which sizes may differ. level: of significance, after Holm's correction.
    """
    sides = [_by_what(evidence) for evidence in (a, b)]
    found: list[Change] = []
    for what in sorted({*sides[0], *sides[1]}, key=_sort_key):
        of_a, of_b = (side.get(what, {}) for side in sides)
        shared = [(of_a[where], of_b[where]) for where in of_a if where in of_b]
        if of_a and of_b and not shared:
            shared = [(_newest(of_a), _newest(of_b))]
        for pair in shared:
            found += _compared(label(what), *pair, a, b, tolerance)
        taken = {point.first.point_id for pair in shared for point in pair}
        for points, verdict in ((of_a, ONLY_A), (of_b, ONLY_B)):
            found += [
                Change(label(what), "", OTHER, verdict, why=point.failed, points=(point.first.point_id,))
                for point in points.values()
                if point.first.point_id not in taken
            ]
    return _corrected(found, level)


def label(what: tuple) -> str:
    """What was measured, in one line."""
    at = dict(zip(WHAT, what, strict=True))
    knobs = parsed(at["knobs"])
    knobs = knobs if isinstance(knobs, dict) else {}
    search = Search(
        *(at[name] for name in ("images", "kind", "variant", "engine")),
        *(whole(at[name]) for name in ("top_k", "bits")),
        query_top_k=whole(knobs.get("query_top_k")),
        shards=whole(knobs.get("shards")),
        knobs=knobs_in_words(knobs),
    )
    call = Call(at["batch_mode"], whole(at["threads"]))
    parts = (
        at["task"],
        f"{at['corpus']} {at['split']}".strip(),
        "" if at["images"] is None else f"{integer(at['images'])} images",
        at["direction"].replace("_", " "),
        at["variant"],
        *(f"{name} {integer(at[name])}" for name in ("seed", "step") if at[name] is not None),
        search.label if at["engine"] else search.knobs,
        call.short if at["batch_mode"] else "",
        at["profile"],
    )
    return ", ".join(part for part in parts if part)


def kind_of(metric: str) -> str:
    """Whether a metric is of quality, size or speed; a metric unknown to this version is none of them."""
    try:
        known = METRICS[metric]
    except KeyError:
        return OTHER
    if metric in SIZES:
        return SIZE
    if metric.startswith(TREC):
        return OTHER
    if metric in MEMORY or known.unit in RATES:
        return SPEED
    return QUALITY if (known.unit, known.direction) == ("share", "higher") else OTHER


def _by_what(evidence: Evidence) -> dict[tuple, dict[tuple[str, str], _Point]]:
    """What was measured -> machine and data -> the newest point."""
    rows = evidence.all.sort_values(["started", "point_id"], kind="stable")
    keys = rows[list(WHAT)].astype(object).where(rows[list(WHAT)].notna(), None)
    values: dict[str, dict[str, float]] = collections.defaultdict(dict)
    for point_id, metric, value in zip(rows.point_id, rows.metric, rows.value, strict=True):
        if metric:
            values[point_id][metric] = value
    found: dict[tuple, dict[tuple[str, str], _Point]] = collections.defaultdict(dict)
    for place in np.flatnonzero(~rows.point_id.duplicated().to_numpy()):
        first = rows.iloc[place]
        found[tuple(keys.iloc[place])][first.machine_id, first.data_id] = _Point(first, values[first.point_id])
    return dict(found)


def _newest(points: dict[tuple[str, str], _Point]) -> _Point:
    return max(points.values(), key=lambda point: (point.first.started, point.first.point_id))


def _sort_key(what: tuple) -> tuple:
    return tuple((value is not None, str(type(value)), value) for value in what)


def _compared(what: str, a: _Point, b: _Point, in_a: Evidence, in_b: Evidence, tolerance: float) -> list[Change]:
    """Changes of every metric of either side; p-values are not corrected yet."""
    ids = (a.first.point_id, b.first.point_id)
    if a.failed or b.failed:
        if a.failed and b.failed:
            return []
        return [Change(what, "", OTHER, ONLY_B if a.failed else ONLY_A, why=a.failed or b.failed, points=ids)]
    paired = _Paired(*(evidence.queries(point_id) for evidence, point_id in zip((in_a, in_b), ids, strict=True)))
    other_data = a.first.data_id != b.first.data_id and a.first.data_id != "" and b.first.data_id != ""
    other_machine = a.first.machine_id != b.first.machine_id
    found = []
    for metric in dict.fromkeys((*a.values, *b.values)):
        kind = kind_of(metric)
        values = [_finite(point.values.get(metric)) for point in (a, b)]
        change = Change(what, metric, kind, SAME, *values, notes=(a.first.note, b.first.note), points=ids)
        if None in values:
            if values != [None, None]:
                missing = NOT_A_NUMBER if metric in a.values and metric in b.values else NOT_MEASURED
                found.append(replace(change, verdict=ONLY_A if values[1] is None else ONLY_B, why=missing))
        elif kind == SPEED and other_machine:
            found.append(replace(change, verdict=OTHER_MACHINE))
        elif other_data:
            found.append(replace(change, verdict=OTHER_DATA))
        elif kind == SPEED:
            found.append(replace(change, verdict=NOT_JUDGED))
        elif kind == QUALITY:
            found.append(_tested(change, paired))
        elif kind == SIZE:
            found.append(replace(change, verdict=_sized(*values, tolerance)))
        else:
            found.append(replace(change, verdict=SAME if values[0] == values[1] else NOT_JUDGED))
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _sized(a: float, b: float, tolerance: float) -> str:
    if abs(b - a) <= tolerance * a:
        return SAME
    return WORSE if b > a else BETTER


class _Paired:
    """Per-query results of the queries that two points share, in one order."""

    def __init__(self, a: pd.DataFrame | None, b: pd.DataFrame | None):
        self.a = self.b = None
        if a is not None and b is not None:
            _, in_a, in_b = np.intersect1d(
                a["query_id"].to_numpy(str), b["query_id"].to_numpy(str), return_indices=True
            )
            self.a, self.b = a.iloc[in_a].reset_index(drop=True), b.iloc[in_b].reset_index(drop=True)

    def differences(self, metric: str) -> pd.DataFrame | None:
        """Columns seed, query_id, group, outcome (B minus A); None if the metric is no mean over shared queries."""
        outcomes = [None if side is None else per_query(side, metric) for side in (self.a, self.b)]
        if any(values is None for values in outcomes):
            return None
        differences = outcomes[1] - outcomes[0]
        counts = np.isfinite(differences)
        found = self.a[["query_id", "group"]].assign(seed=0.0, outcome=differences)[counts]
        return found if len(found) else None


def _tested(change: Change, paired: _Paired) -> Change:
    differences = paired.differences(change.metric)
    if differences is None:
        verdict = SAME if change.a == change.b else NOT_JUDGED
        return replace(change, verdict=verdict, why="no per-query results of shared queries")
    by_group = differences.groupby("group").outcome.sum().to_numpy()
    p = sign_flip.p_value(by_group)
    if p is None:
        estimate = intervals.Estimate(0.0, 0.0, 0.0, 0.0, len(differences), len(by_group), seeds=1)
        return replace(change, difference=estimate, why="no query differs")
    return replace(change, difference=intervals.mean(differences), p=p)


def _corrected(found: list[Change], level: float) -> list[Change]:
    """Changes with p-values after Holm's correction, and the verdicts that follow."""
    tested = [place for place, change in enumerate(found) if change.p is not None]
    for place, p in zip(tested, corrections.holm([found[place].p for place in tested]), strict=True):
        gained = found[place].difference.value
        verdict = SAME if p >= level or gained == 0 else BETTER if gained > 0 else WORSE
        found[place] = replace(found[place], p=float(p), verdict=verdict)
    return found
