"""The reference against the baseline, one comparison a row, losses first.

Over the test gallery both are searched at their operating points. At scale the pair is chosen by one rule for both
sides: the best search of each in R@1; and at equal R@1, where the level is the highest R@1 that both sides reach, the
fastest and the smallest search of each side that is as good (`paired.as_good`).
"""

from dataclasses import dataclass

from reports.findings import comparisons, paired, speed, verdict
from reports.findings.ratios import FLAT, lexicon_side, sizes
from reports.findings.ratios import comparisons as ratios_at_equal_recall
from reports.records.evidence import Evidence
from reports.records.search import KINDS, MODES, Call, Search
from reports.records.sweep import Sweep, sweeps
from reports.render.tables import NOT_APPLICABLE, Cell, integer, percent, points, significant, size, times
from reports.statistics.intervals import Estimate

RECALLS = (
    ("R@1, text to image", "recall@1", "test", "text_to_image"),
    ("R@10, text to image", "recall@10", "test", "text_to_image"),
    ("R@1, image to text", "recall@1", "test", "image_to_text"),
    ("R@1 on unseen combinations", "recall@1", "compositional", "text_to_image"),
)
HARD_NEGATIVES = "Hard negatives"
BEST, SPEED, SIZE = "Best R@1", "Speed at equal R@1", "Index size at equal R@1"
WORST_SPEED, WORST_SIZE = "Speed at equal R@1, worst top-k", "Index size, worst top-k"
SIDES = ("reference", "baseline")


@dataclass(frozen=True)
class Finding:
    """One comparison.

    over: the gallery. difference: points with interval for shares, times better for speed and size. how: what was
    searched and how. anchor: section with the evidence. headline: whether the first page shows it in a tile.
    """

    what: str
    over: str
    verdict: str
    reference: Cell
    baseline: Cell
    difference: Cell
    how: str
    anchor: str
    headline: bool = False

    @property
    def points(self) -> tuple[str, ...]:
        return self.difference.points


def findings(evidence: Evidence) -> list[Finding]:
    """Every comparison that both sides were measured in, losses first."""
    found = [_recall(evidence, *recall) for recall in RECALLS] + [_hard_negatives(evidence), _bytes(evidence)]
    found += [_speed(evidence, mode) for mode in MODES]
    found += at_scale(evidence)
    return sorted((one for one in found if one), key=lambda one: verdict.ORDER.index(one.verdict))


def at_scale(evidence: Evidence) -> list[Finding]:
    """Best R@1, and speed and size at equal R@1, of the first sweep with R@1 of both sides."""
    for sweep in sweeps(evidence):
        lexicon, dense = (
            [search for search in sweep.at(sweep.largest, kind) if search.recall and not search.engine.endswith("-gpu")]
            for kind in KINDS
        )
        if lexicon and dense:
            sides = at_equal_recall(sweep, lexicon, dense)
            found = [_best(sweep, lexicon, dense), _smallest(sweep, *sides), _worst_size(sweep)]
            for call in sweep.main_calls:
                found += [_fastest(sweep, call, *sides), _worst_speed(sweep, call)]
            return [one for one in found if one]
    return []


def at_equal_recall(sweep: Sweep, lexicon: list[Search], dense: list[Search]) -> list[list[Search]]:
    """Searches of each side that are as good as the best one of the weaker side."""
    tops = [max(side, key=lambda search: search.recall) for side in (lexicon, dense)]
    weaker = tops[1] if paired.as_good(sweep.evidence, *tops) else tops[0]
    return [[s for s in side if paired.as_good(sweep.evidence, s, weaker)] for side in (lexicon, dense)]


# --- over the test gallery


def _recall(evidence: Evidence, what: str, metric: str, split: str, direction: str) -> Finding | None:
    r, filters = evidence.reading, evidence.retrieval(split, direction)
    sides = [(name, filters | evidence.operating_point(name)) for name in (r.reference, r.baseline)]
    over = f"{integer(filters['images'])} images" if filters["images"] else ""
    return _compared(evidence, what, over, metric, sides, f"top-{r.top_k}, {r.bits} bits", what == RECALLS[0][0])


def _hard_negatives(evidence: Evidence) -> Finding | None:
    at = {"task": "hard_negatives", "split": "test"}
    sides = [(name, at) for name in (evidence.reading.reference, evidence.reading.baseline)]
    return _compared(evidence, HARD_NEGATIVES, "", "hard_negative_accuracy", sides, "float vectors, before pruning")


def _compared(evidence: Evidence, what: str, over: str, metric: str, sides, how: str, headline=False) -> Finding | None:
    ours, theirs = (evidence.cell(name, metric, **filters) for name, filters in sides)
    if ours.missing or theirs.missing:
        return None
    estimate, _ = comparisons.difference(evidence, *sides, metric)
    return _of_shares(what, over, ours, theirs, estimate, how, "ablations", headline)


def _of_shares(what, over, ours: Cell, theirs: Cell, estimate: Estimate | None, how, anchor, headline) -> Finding:
    """A comparison of shares; open without an interval."""
    behind = ours.points + theirs.points
    if estimate is None:
        difference = Cell(ours.value - theirs.value, points=behind, format=points)
    else:
        n = comparisons.paired_queries(estimate)
        difference = Cell(estimate.value, estimate.low, estimate.high, n=n, points=behind, format=points)
    shown = [Cell(cell.value, n=cell.n, points=cell.points, format=percent) for cell in (ours, theirs)]
    return Finding(
        what, over, verdict.of_difference(difference.low, difference.high), *shown, difference, how, anchor, headline
    )


def _of_costs(what, over, ours: Cell, theirs: Cell, gain: float, how, anchor, headline=False) -> Finding:
    """A comparison of rates or sizes; gain: how many times better the reference is."""
    difference = Cell(gain, points=tuple(dict.fromkeys(ours.points + theirs.points)), format=times)
    return Finding(what, over, verdict.of_ratio(gain), ours, theirs, difference, how, anchor, headline)


def _bytes(evidence: Evidence) -> Finding | None:
    r, found = evidence.reading, speed.bytes_per_image(evidence)
    if not found:
        return None
    sides = [Cell(value, points=found.points, format=size) for value in (found.reference, found.baseline)]
    engines = f"{r.lexicon_engine}, {r.dense_engine}"
    return _of_costs("Index bytes per image", _gallery(evidence), *sides, 1 / found.ratio, engines, "efficiency")


def _speed(evidence: Evidence, mode: str) -> Finding | None:
    r, found = evidence.reading, speed.speed(evidence, mode)
    if not found:
        return None
    sides = [Cell(value, points=found.points, format=significant) for value in (found.reference, found.baseline)]
    call = Call(mode, None if found.threads is None else int(found.threads))
    how = f"{r.lexicon_engine}, {r.dense_engine}; {call.label}"
    return _of_costs(f"Queries per second, {MODES[mode]}", _gallery(evidence), *sides, found.ratio, how, "efficiency")


def _gallery(evidence: Evidence) -> str:
    images = evidence.gallery.get(("test", "text_to_image"))
    return f"{integer(images)} images" if images else NOT_APPLICABLE


# --- at scale


def _best(sweep: Sweep, lexicon: list[Search], dense: list[Search]) -> Finding:
    mine = max(lexicon, key=lambda search: search.recall)
    theirs = max(dense, key=lambda search: (search.recall, search.engine == FLAT))
    gap = paired.difference(sweep.evidence, mine.accuracy.point_id, theirs.accuracy.point_id)
    cells = [search.cell("recall@1") for search in (mine, theirs)]
    return _of_shares(BEST, _over(sweep), *cells, gap, f"{mine.label}; {theirs.label}", "scale", True)


def _fastest(sweep: Sweep, call: Call, lexicon: list[Search], dense: list[Search]) -> Finding | None:
    sides = [[search for search in side if search.rate(call)] for side in (lexicon, dense)]
    if not all(sides):
        return None
    mine, theirs = (max(side, key=lambda search: search.rate(call)) for side in sides)
    if not all(verdict.is_comparable(search.recall, sweep.largest) for search in (mine, theirs)):
        return None
    cells = [Cell(s.rate(call), n=_at_recall(s), points=s.points(call), format=integer) for s in (mine, theirs)]
    gain, how = mine.rate(call) / theirs.rate(call), f"{mine.label}; {theirs.label}; {call.label}"
    return _of_costs(SPEED, _over(sweep), *cells, gain, how, "scale_engines", call == sweep.main_calls[0])


def _smallest(sweep: Sweep, lexicon: list[Search], dense: list[Search]) -> Finding | None:
    sides = [[search for search in side if search.bytes_per_image] for side in (lexicon, dense)]
    if not all(sides):
        return None
    mine, theirs = (min(side, key=lambda search: search.bytes_per_image) for side in sides)
    cells = [Cell(s.bytes_per_image, n=_at_recall(s), points=s.points(), format=size) for s in (mine, theirs)]
    gain, how = theirs.bytes_per_image / mine.bytes_per_image, f"{mine.label}; {theirs.label}"
    return _of_costs(SIZE, _over(sweep), *cells, gain, how, "scale_engines", True)


def _worst_speed(sweep: Sweep, call: Call) -> Finding | None:
    """The lowest speedup over the fastest dense engine of equal R@1, among all top-k."""
    rows = [row for row in ratios_at_equal_recall(sweep) if row.call == call and not row.speedup["any"].missing]
    if not rows:
        return None
    worst = min(rows, key=lambda row: row.speedup["any"].value)
    search, ratio = worst.search, worst.speedup["any"]
    mine = Cell(search.rate(call), n=_at_recall(search), points=search.points(call), format=integer)
    theirs = Cell(search.rate(call) / ratio.value, n=ratio.n, points=ratio.points, format=integer)
    how = f"{search.label}; {ratio.n.partition(':')[0]}"
    return _of_costs(WORST_SPEED, _over(sweep), mine, theirs, ratio.value, how, "scale")


def _worst_size(sweep: Sweep) -> Finding | None:
    """The lowest ratio of the bytes of a dense store to those of the index, among all top-k and stores."""
    cells = [(one, store, cell) for one in lexicon_side(sweep) for store, cell in sizes(sweep, one).items()]
    cells = [(one, store, cell) for one, store, cell in cells if not cell.missing]
    if not cells:
        return None
    search, store, ratio = min(cells, key=lambda one: one[2].value)
    mine = Cell(search.bytes_per_image, n=_at_recall(search), points=search.points(), format=size)
    theirs = Cell(search.bytes_per_image * ratio.value, n=ratio.n, points=ratio.points, format=size)
    how = f"{search.label}; {store}, whatever its R@1"
    return _of_costs(WORST_SIZE, _over(sweep), mine, theirs, ratio.value, how, "scale")


def _over(sweep: Sweep) -> str:
    return f"{integer(sweep.largest)} images"


def _at_recall(search: Search) -> str:
    return f"R@1 {percent(search.recall)} %" if search.recall is not None else ""
