"""Lexicon searches whose R@1 flat dense search does not reach.

There is no ratio at equal quality, so speed and R@1 of both sides are compared, with a paired test of the R@1. Below
the R@1 of `verdict.is_comparable` there is nothing to compare.
"""

from dataclasses import dataclass

from reports.findings import paired, verdict
from reports.findings.ratios import FLAT, Comparison, Range, engine, flat_search, lexicon_side, range_of
from reports.records.search import Call, Search
from reports.records.sweep import Sweep
from reports.statistics import corrections
from reports.statistics.intervals import Estimate


@dataclass(frozen=True)
class AboveFlat:
    """A lexicon search beside flat search in the same call.

    ratio: QPS over that of flat search. gap: R@1 minus that of flat search. p: exact paired test after Holm's
    correction over the searches. Both are None without per-query results. better: whether the R@1 is significantly
    higher.
    """

    search: Search
    call: Call
    flat: Search
    ratio: float
    gap: Estimate | None
    p: float | None
    better: bool

    @property
    def points(self) -> tuple[str, ...]:
        return self.search.points(self.call) + self.flat.points(self.call)


def above_flat(sweep: Sweep) -> list[AboveFlat]:
    """Each such search in each call in which both sides were timed, by ascending top_k."""
    images = sweep.largest
    flats = [s for s in engine(sweep.at(images, "dense"), FLAT) if verdict.is_comparable(s.recall, images)]
    if not flats:
        return []
    evidence, best = sweep.evidence, flat_search(sweep)
    mine = [s for s in lexicon_side(sweep) if s.recall is not None and not paired.as_good(evidence, best, s)]
    ids = [(search.accuracy.point_id, best.accuracy.point_id) for search in mine]
    tests = [paired.test(evidence, *pair) for pair in ids]
    raw = {pair: test.p for pair, test in zip(ids, tests, strict=True) if test and test.p is not None}
    adjusted = dict(zip(raw, map(float, corrections.holm(list(raw.values()))), strict=True))
    found = []
    for call in sweep.calls(sweep.largest):
        timed = [search for search in flats if search.rate(call)]
        flat = max(timed, key=lambda search: search.rate(call), default=None)
        for search, pair in zip(mine, ids, strict=True):
            if flat and search.rate(call):
                p = adjusted.get(pair)
                better = p is not None and p < evidence.reading.significant
                ratio, gap = search.rate(call) / flat.rate(call), paired.difference(evidence, *pair)
                found.append(AboveFlat(search, call, flat, ratio, gap, p, better))
    return found


def against_flat(sweep: Sweep, rows: list[Comparison], call: Call, name: str) -> tuple[Range, Range]:
    """Speedups of an engine over flat search: at equal R@1, and at an R@1 that flat search does not reach."""
    equal = range_of(row.speedup[f"flat {call.mode}"] for row in rows if row.call == call and row.search.engine == name)
    above = [one for one in above_flat(sweep) if one.call == call and one.search.engine == name]
    ratios, points = [one.ratio for one in above], [point for one in above for point in one.points]
    least, most = min(ratios, default=None), max(ratios, default=None)
    return equal, Range(least, most, len(above), equal.of, tuple(dict.fromkeys(points)))
