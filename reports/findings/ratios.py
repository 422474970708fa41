"""How many times faster and smaller the lexicon side is than each dense side, at equal R@1 and equal threads.

A speedup counts only against a dense search whose R@1 is as good (`paired.as_good`), and only if R@1 is high enough to
mean anything (`verdict.is_comparable`). The call that is compared moves it
as much as the engine, so flat search is compared in both calls; and so does top-k.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from reports.findings.paired import as_good
from reports.findings.verdict import TOO_LOW, is_comparable
from reports.records.search import Call, Search
from reports.records.sweep import Sweep
from reports.render.tables import NOT_MEASURED, Cell, percent, significant, size

FLAT, SQ8, PQ, LUCENE = "faiss-flat", "faiss-ivf-sq8", "faiss-ivf-pq", "lucene"
HNSW, IVF = ("faiss-hnsw", "hnswlib", "usearch"), (SQ8, PQ, "faiss-rabitq")
STORES = {"flat float32": FLAT, "SQ8": SQ8, "PQ": PQ}
NOT_REACHED = "not reached"
LOWER = "†"


@dataclass(frozen=True)
class Comparison:
    """A lexicon search in one call, and the speedup over each dense side by name (a missing cell: no ratio)."""

    search: Search
    call: Call
    speedup: dict[str, Cell]


class Range:
    """Range of the ratios that exist among `of` comparisons; `count`: how many exist."""

    least: float | None
    most: float | None
    count: int
    of: int
    points: tuple[str, ...] = ()

    def cell(self, end: str, missing: str = NOT_MEASURED) -> Cell:
        """The least or the most."""
        value = getattr(self, end)
        return Cell(missing=missing) if value is None else Cell(value, points=self.points)


def lexicon_side(sweep: Sweep) -> list[Search]:
    """`impact` at every top_k, all else the same, ascending; then Lucene."""
    found = sweep.at(sweep.largest, "lexicon")
    impact = [search for search in found if search.engine == "impact"]
    settings = [(search.bits, search.query_top_k) for search in impact]
    if impact:
        common = max(settings, key=lambda setting: (settings.count(setting), setting == (8, None)))
        impact = [search for search, setting in zip(impact, settings, strict=True) if setting == common]
    return impact + [search for search in found if search.engine == LUCENE]


def comparisons(sweep: Sweep) -> list[Comparison]:
    """Each lexicon search in each call, against dense engines with as many threads."""
    dense = sweep.at(sweep.largest, "dense")
    gpu = [search for search in dense if search.engine.endswith("-gpu")]
    sides = {"hnsw": engine(dense, *HNSW), "ivf": engine(dense, *IVF), "any": [s for s in dense if s not in gpu]}
    sides |= {"gpu": gpu} if gpu else {}
    found = []
    for call in sweep.calls(sweep.largest):
        for search in lexicon_side(sweep):
            flat = {mode: Call(mode, call.threads) for mode in ("single", "batched")}
            cells = {f"flat {mode}": speedup(sweep, search, call, engine(dense, FLAT), at) for mode, at in flat.items()}
            cells |= {name: speedup(sweep, search, call, rivals) for name, rivals in sides.items()}
            found.append(Comparison(search, call, cells))
    return found


def engine(searches: Iterable[Search], *names: str) -> list[Search]:
    """Searches of some engines."""
    return [search for search in searches if search.engine in names]


def speedup(sweep: Sweep, mine: Search, call: Call, rivals: list[Search], theirs: Call | None = None) -> Cell:
    """QPS over that of the fastest rival of equal R@1, or why there is none. `theirs`: another call of the rivals."""
    theirs = theirs or call
    rate = mine.rate(call)
    if rate is None or mine.recall is None:
        return Cell(missing=mine.timed(call).missing or mine.cell("recall@1").missing or NOT_MEASURED)
    if not is_comparable(mine.recall, mine.images):
        return Cell(missing=TOO_LOW, n=f"R@1 {percent(mine.recall)} %")
    good = [rival for rival in rivals if as_good(sweep.evidence, rival, mine)]
    timed = [rival for rival in good if rival.rate(theirs)]
    if timed:
        best = max(timed, key=lambda rival: rival.rate(theirs))
        n = f"{best.label}, {theirs.label}: R@1 {percent(best.recall)} %, {significant(best.rate(theirs))} queries/s"
        return Cell(rate / best.rate(theirs), n=n, points=mine.points(call) + best.points(theirs))
    if good:
        return Cell(missing=good[0].timed(theirs).missing or NOT_MEASURED)
    best = max((rival.recall for rival in rivals if rival.recall is not None), default=None)
    if best is not None:
        return Cell(missing=NOT_REACHED, n=f"the best R@1 is {percent(best)} %")
    return Cell(missing=next((rival.problem for rival in rivals if rival.problem), NOT_MEASURED))


def smaller(sweep: Sweep, mine: Search, stores: list[Search]) -> Cell:
    """Bytes per image of the smallest store over those of the index; marked if its R@1 is not as good."""
    stores = [store for store in stores if store.bytes_per_image]
    if not mine.bytes_per_image:
        return mine.cell("bytes_per_image") if mine.problem else Cell(missing=NOT_MEASURED)
    if not stores:
        return Cell(missing=NOT_MEASURED)
    least = min(store.bytes_per_image for store in stores)
    best = max((one for one in stores if one.bytes_per_image == least), key=lambda store: store.recall or 0)
    known = mine.recall is not None and best.recall is not None
    mark = LOWER if known and not as_good(sweep.evidence, best, mine) else ""
    recall = f", R@1 at most {percent(best.recall)} %" if best.recall is not None else ""
    n = f"{best.label}: {size(least)} per image{recall}"
    return Cell(least / mine.bytes_per_image, mark=mark, n=n, points=mine.points() + best.points())


def sizes(sweep: Sweep, mine: Search) -> dict[str, Cell]:
    """How many times smaller the index is than each dense store."""
    found = {}
    for store, name in STORES.items():
        stores = engine(sweep.at(sweep.largest, "dense"), name)
        cell = smaller(sweep, mine, stores)
        problem = next((search.problem for search in stores if search.problem), "")
        found[store] = Cell(missing=problem) if cell.missing == NOT_MEASURED and problem else cell
    return found
