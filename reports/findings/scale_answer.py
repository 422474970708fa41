"""What a sweep says of the published claim, in sentences made from its numbers; losses first."""

from collections.abc import Iterable
from dataclasses import dataclass

from reports.findings import paired
from reports.findings.paper import ICCV_SIZE, ICCV_SPEED, LARGE_SCALE, V1_SIZE, V1_SPEED
from reports.findings.scale_beyond import Beyond, beyond, sentence
from reports.findings.scale_ratios import (
    LUCENE,
    NOT_REACHED,
    STORES,
    Comparison,
    flat_search,
    gain,
    keeping,
    lexicon_side,
    points_of,
    range_of,
    sizes,
)
from reports.findings.verdict import EQUAL_RATIO, LOSES, OPEN, ORDER, WINS
from reports.records.scale import Call, Sweep
from reports.render.tables import Cell, integer, percent, points, times


@dataclass(frozen=True)
class Finding:
    """One sentence, who it favours, and the points behind it."""

    verdict: str
    what: str
    sentence: str
    points: tuple[str, ...] = ()


def findings(sweep: Sweep, rows: list[Comparison]) -> list[Finding]:
    """Quality, then speed in each call, then what flat search does not reach, then size; losses first."""
    above = [_beyond(sweep, call) for call in dict.fromkeys((sweep.call("single"), sweep.call("batched")))]
    found = [_quality(sweep), *(_speed(sweep, rows, call) for call in sweep.calls(sweep.largest)), *above, _size(sweep)]
    return sorted([finding for finding in found if finding], key=lambda finding: ORDER.index(finding.verdict))


def _quality(sweep: Sweep) -> Finding | None:
    flat, mine = flat_search(sweep), [search for search in lexicon_side(sweep) if search.recall is not None]
    if not flat or not mine:
        return None
    best = max(mine, key=lambda search: search.recall)
    level = f"flat dense search has {percent(flat.recall)} %"
    gap = f"the best lexicon index ({best.label}) {percent(best.recall)} %, {points(best.recall - flat.recall)} points"
    estimate = paired.difference(sweep.evidence, best.accuracy.point_id, flat.accuracy.point_id)
    if estimate and estimate.low is not None:
        gap += f" (95% interval {points(estimate.low)} to {points(estimate.high)}, {integer(estimate.queries)} queries)"
    behind = points_of(flat) + tuple(point for search in mine for point in points_of(search))
    equal = [search for search in mine if sweep.as_good(search, flat)]
    if not equal:
        return Finding(
            LOSES, "R@1", f"Below flat dense search at every number of lexicons top_k: {level}, {gap}.", behind
        )
    if len(equal) == len(mine):
        verdict = OPEN if sweep.as_good(flat, best) else WINS
        return Finding(
            verdict, "R@1", f"As good as flat dense search at every number of lexicons top_k: {level}, {gap}.", behind
        )
    return Finding(
        OPEN,
        "R@1",
        f"As good as flat dense search for {keeping(equal)}, and below it otherwise: {level}, {gap}.",
        behind,
    )


def _speed(sweep: Sweep, rows: list[Comparison], call: Call) -> Finding | None:
    """Against the fastest dense engine of equal R@1."""
    cells = [(row.search, row.faster["any"]) for row in rows if row.call == call]
    measured = [(search, cell) for search, cell in cells if not cell.missing]
    slower = [pair for pair in measured if pair[1].value < 1 - EQUAL_RATIO]
    quicker = [pair for pair in measured if pair[1].value > 1 + EQUAL_RATIO]
    unreached = [search for search, cell in cells if cell.missing.startswith(NOT_REACHED)]
    parts = []
    if slower:
        search, worst = min(slower, key=lambda pair: pair[1].value)
        most = f"by up to {times(1 / worst.value)}, over {keeping([search])}: {worst.n}"
        parts.append(f"a dense engine is faster than {keeping(search for search, _ in slower)} ({most})")
    if quicker:
        search, best = max(quicker, key=lambda pair: pair[1].value)
        most = f"by up to {times(best.value)}, {keeping([search])}: {best.n}"
        parts.append(
            f"{keeping(search for search, _ in quicker)} {'is' if len(quicker) == 1 else 'are'} faster than any dense engine ({most})"
        )
    if measured and not slower and not quicker:
        parts.append("about as fast as the fastest dense engine")
    if unreached:
        parts.append(f"no dense engine that ran reaches the R@1 of {keeping(unreached)}")
    if not parts:
        return None
    verdict = LOSES if slower else WINS if quicker or (unreached and not measured) else OPEN
    behind = tuple(dict.fromkeys(point for _, cell in measured for point in cell.points))
    return Finding(verdict, f"Speed, {call.label}", f"At equal R@1, {'; '.join(parts)}.", behind)


def _beyond(sweep: Sweep, call: Call | None) -> Finding | None:
    """Speed where flat search does not reach the R@1: both numbers."""
    mine = [one for one in beyond(sweep) if one.call == call]
    if not mine:
        return None
    clear = any(one.better and one.ratio > 1 + EQUAL_RATIO for one in mine)
    what = "Faster and better than flat search" if clear else "Beyond the R@1 of flat search"
    behind = tuple(dict.fromkeys(point for one in mine for point in one.points))
    said = sentence(sweep, call)
    return Finding(WINS if clear else OPEN, f"{what}, {call.label}", f"{said[:1].upper()}{said[1:]}.", behind)


def _size(sweep: Sweep) -> Finding | None:
    ratios = [
        (search, store, cell)
        for search in lexicon_side(sweep)
        for store, cell in sizes(sweep, search).items()
        if not cell.missing
    ]
    if not ratios:
        return None
    behind = tuple(dict.fromkeys(point for *_, cell in ratios for point in cell.points))
    parts = []
    for store in STORES:
        if values := [cell.value for _, name, cell in ratios if name == store]:
            parts.append(f"{range_of(values)} against {store}")
    lost = any(cell.value < 1 - EQUAL_RATIO for *_, cell in ratios)
    won = all(cell.value > 1 + EQUAL_RATIO for *_, cell in ratios)
    verdict = LOSES if lost else WINS if won else OPEN
    said = f"The lexicon index is {'; '.join(parts)}"
    return Finding(
        verdict, "Index size", f"{said}; above 1× it is smaller than the dense store, below 1× larger.", behind
    )


def verdicts(sweep: Sweep, rows: list[Comparison]) -> list[str]:
    """Which part of the published claim holds here, in sentences made from the numbers."""
    single = sweep.call("single")
    lucene = [search for search in lexicon_side(sweep) if search.engine == LUCENE]
    found = []
    for engine, words in (("impact", ""), (LUCENE, " with Lucene, the paper's engine")):
        mine = [search for search in lexicon_side(sweep) if search.engine == engine and not search.problem]
        if mine or engine == "impact":
            timed = [row.faster["flat single"] for row in rows if row.call == single and row.search in mine]
            stored = [sizes(sweep, search)["flat float32"] for search in mine]
            above = [one for one in beyond(sweep) if one.call == single and one.search in mine]
            found.append(
                _holds(f"Speed against flat search, one query at a time{words}", timed, V1_SPEED, ICCV_SPEED, above)
            )
            found.append(_holds(f"Index against flat float32{words}", stored, V1_SIZE, ICCV_SIZE))
    found.append(_equal_quality(sweep))
    if not lucene:
        found.append("Lucene, the paper's engine, was not measured here.")
    elif lucene[0].problem:
        found.append(f"Lucene, the paper's engine, gave no result here ({lucene[0].problem}).")
    if sweep.largest < LARGE_SCALE:
        found.append(f"The paper's gallery holds more than a million images, this one {integer(sweep.largest)}.")
    return found


def _holds(what: str, cells: list[Cell], paper: tuple[float, float], iccv: str, above: Iterable[Beyond] = ()) -> str:
    """`above`: those whose R@1 flat search does not reach, which have no ratio at equal quality."""
    values = [cell.value for cell in cells if not cell.missing]
    ratios = [one.ratio for one in above]
    at_that = f"; at the higher R@1 {gain(ratios, 'faster', 'slower')}" if ratios else ""
    if not values:
        if cells and all(cell.missing == NOT_REACHED for cell in cells):
            return f"{what}: flat search does not reach the R@1 of the lexicon index, so there is no ratio at equal quality{at_that}."
        return f"{what}: no ratio was measured at equal quality."
    low, high = min(values), max(values)
    claimed = f"the {paper[0]:.1f}× to {paper[1]:.1f}× of arXiv v1"
    if low > paper[1] or high < paper[0]:
        relation = "above" if low > paper[1] else "below"
    elif low >= paper[0] and high <= paper[1]:
        relation = "within"
    else:
        relation = "which contains" if low <= paper[0] and high >= paper[1] else "partly within"
    unreached = sum(cell.missing == NOT_REACHED for cell in cells)
    left_out = (
        f" Left out: {unreached} of {len(cells)}, whose R@1 flat search does not reach{at_that}." if unreached else ""
    )
    return f"{what}: {range_of(values)} here, {relation} {claimed} (ICCV version: {iccv}).{left_out}"


def _equal_quality(sweep: Sweep) -> str:
    flat, mine = flat_search(sweep), [search for search in lexicon_side(sweep) if search.recall is not None]
    if not flat or not mine:
        return "Quality: R@1 was not measured on both sides."
    below = [search for search in mine if not sweep.as_good(search, flat)]
    if not below:
        return "Quality: R@1 is as good as that of flat search at every number of lexicons kept."
    gaps = [search.recall - flat.recall for search in below]
    bounds = " to ".join(dict.fromkeys((points(max(gaps)), points(min(gaps)))))
    return f"Quality is not equal: for {keeping(below)}, R@1 is {bounds} points against flat search, and the ratios of those rows are bought with it."
