"""Lexicon searches whose R@1 flat dense search does not reach. No ratio at equal quality exists, so speed and R@1 of both sides stand beside each other, with
a paired test of the R@1; and the fastest dense engine that is as good as flat search, which is no better than it and may be faster than all.
"""

from dataclasses import dataclass

from reports.findings import paired
from reports.findings.scale_ratios import (
    FLAT,
    NOT_REACHED,
    Comparison,
    engine,
    flat_search,
    gain,
    keeping,
    lexicon_side,
    points_of,
    range_cell,
)
from reports.records.scale import Call, Search, Sweep
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, points, significant, times
from reports.statistics import significance
from reports.statistics.significance import Estimate

MARK = "*"


@dataclass(frozen=True)
class Beyond:
    """`ratio`: QPS over that of flat search in the same call. `gap`: R@1 minus that of flat search; `p`: of the exact paired test, after Holm's correction over
    the searches; both None where the results of each query were not kept."""

    search: Search
    call: Call
    flat: Search
    ratio: float
    gap: Estimate | None
    p: float | None
    better: bool

    @property
    def points(self) -> tuple[str, ...]:
        return points_of(self.search, self.call) + points_of(self.flat, self.call)


def beyond(sweep: Sweep) -> list[Beyond]:
    """Each such search in each call in which both it and flat search were timed, fewest lexicons first."""
    flats = [search for search in engine(sweep.at(sweep.largest, "dense"), FLAT) if search.recall is not None]
    if not flats:
        return []
    best = flat_search(sweep)
    mine = [search for search in lexicon_side(sweep) if search.recall is not None and not sweep.as_good(best, search)]
    ids = [(search.accuracy.point_id, best.accuracy.point_id) for search in mine]
    tests = [paired.test(sweep.evidence, *pair) for pair in ids]
    raw = {pair: test.p for pair, test in zip(ids, tests, strict=True) if test and test.p is not None}
    adjusted = dict(zip(raw, significance.holm(list(raw.values())), strict=True))
    found = []
    for call in sweep.calls(sweep.largest):
        flat = max(
            (search for search in flats if search.rate(call)), key=lambda search: search.rate(call), default=None
        )
        for search, pair in zip(mine, ids, strict=True):
            if flat and search.rate(call):
                p = adjusted.get(pair)
                gap = paired.difference(sweep.evidence, *pair)
                better = p is not None and p < sweep.evidence.reading.significant
                found.append(
                    Beyond(
                        search,
                        call,
                        flat,
                        search.rate(call) / flat.rate(call),
                        gap,
                        p if p is None else float(p),
                        better,
                    )
                )
    return found


def against_flat(sweep: Sweep, rows: list[Comparison], call: Call, name: str) -> Cell:
    """How many times faster than flat search an engine is: at equal R@1, and at one that flat search does not reach."""
    mine = [row for row in rows if row.call == call and row.search.engine == name]
    cell = range_cell([row.faster[f"flat {call.mode}"] for row in mine], "faster", "slower")
    above = [one for one in beyond(sweep) if one.call == call and one.search.engine == name]
    if not above:
        return cell
    more = f"{gain([one.ratio for one in above], 'faster', 'slower')} at an R@1 that flat search does not reach"
    behind = tuple(dict.fromkeys([*cell.points, *(point for one in above for point in one.points)]))
    if cell.missing:
        return Cell(more, points=behind)
    return Cell(f"{cell.value.partition(f'; {NOT_REACHED}')[0]}; {more} ({len(above)} of {len(mine)})", points=behind)


def quickest(sweep: Sweep, call: Call) -> Search | None:
    """The fastest dense engine on the CPU that is as good as flat search, and not flat search."""
    flat = flat_search(sweep)
    rivals = [
        search
        for search in sweep.at(sweep.largest, "dense")
        if search.engine != FLAT and not search.engine.endswith("-gpu")
    ]
    rivals = [search for search in rivals if search.rate(call) and flat and sweep.as_good(search, flat)]
    return max(rivals, key=lambda search: search.rate(call), default=None)


def sentence(sweep: Sweep, call: Call) -> str:
    """What one call says, "" where there is no such search: first what is better beyond chance and faster, then what is not."""
    mine = [one for one in beyond(sweep) if one.call == call]
    groups: dict[tuple, list[Beyond]] = {}
    for one in mine:
        groups.setdefault((not one.better, one.p is None, one.ratio < 1), []).append(one)
    said = []
    for (unclear, untested, _), group in sorted(groups.items()):
        rates = _range([one.search.rate(call) for one in group], significant)
        recalls = _range([one.search.recall for one in group], percent)
        how = (
            "without a paired test"
            if untested
            else f"{'which chance may explain, ' if unclear else ''}{_p([one.p for one in group])}"
        )
        many = gain([one.ratio for one in group], "faster", "slower")
        said.append(
            f"{keeping(one.search for one in group)}: {many} than flat search ({rates} queries/s) at R@1 {recalls} % ({how})"
        )
    if not said:
        return ""
    flat = mine[0].flat
    made = f"{'; '.join(said)}; flat search: {significant(flat.rate(call))} queries/s at {percent(flat.recall)} %"
    if fastest := quickest(sweep, call):
        made += f"; the fastest dense engine that is as good as flat search ({fastest.label}): {significant(fastest.rate(call))} queries/s at {percent(fastest.recall)} %"
    return made


def table(sweep: Sweep) -> Table | None:
    """Both numbers of both sides; None where flat search reaches every lexicon search."""
    rows = [
        {
            "search": Cell(one.search.engine),
            "top_k": Cell("all" if one.search.top_k is None else one.search.top_k),
            "called": Cell(one.call.label),
            "recall@1": sweep.recall_cell(one.search),
            "flat recall@1": sweep.recall_cell(one.flat),
            "gap": _gap(one),
            "p": Cell(one.p) if one.p is not None else Cell(missing=NOT_MEASURED),
            "qps": one.search.timed(one.call),
            "flat qps": one.flat.timed(one.call),
            "ratio": Cell(one.ratio, points=one.points),
        }
        for one in beyond(sweep)
    ]
    if not rows:
        return None
    columns = (
        Column("search", "Lexicon side"), Column("top_k", "Kept", integer), Column("called", "Called"), Column("recall@1", "lexicon", percent, "R@1, %"),
        Column("flat recall@1", "flat", percent, "R@1, %"), Column("gap", "difference, points", points, "R@1, %"), Column("p", "p", _digits, "R@1, %"),
        Column("qps", "lexicon", significant, "QPS"), Column("flat qps", "flat", significant, "QPS"), Column("ratio", "ratio", times, "QPS"),
    )  # fmt: skip
    notes = (
        f"Flat search is exact: no dense engine finds more but by chance. p: exact paired test over the same queries, the captions of an image together, after Holm's correction over the lexicon searches; {MARK} below {sweep.evidence.reading.significant:g}. "
        "Intervals: bootstrap over images, not corrected. Both sides called alike, with as many threads.",
    )
    return Table(
        sweep.named("scale_beyond"), f"Where flat search does not reach the R@1: {sweep.title}", columns, rows, notes
    )


def _gap(one: Beyond) -> Cell:
    behind = points_of(one.search) + points_of(one.flat)
    if one.gap is None:
        return Cell(one.search.recall - one.flat.recall, points=behind)
    n = f"{one.gap.queries:,} paired queries of {one.gap.groups:,} images"
    return Cell(one.gap.value, one.gap.low, one.gap.high, one.p, MARK if one.better else "", n, points=behind)


def _range(values: list[float], written) -> str:
    return " to ".join(dict.fromkeys((written(min(values)), written(max(values)))))


def _digits(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _p(values: list[float]) -> str:
    most = max(values)
    return f"p {'' if most < 0.001 else '= ' if most == min(values) else 'up to '}{_digits(most)}"
