"""How many times faster and smaller the lexicon side is than each dense side, at equal R@1 and as many threads.

A speed-up stands only against a dense search whose R@1 is as good (`Sweep.as_good`). Which call is compared moves it as much as which engine, so the
flat index is compared both ways; so does the number of lexicons kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from reports.records.scale import Call, Search, Sweep
from reports.render.tables import NOT_MEASURED, Cell, percent, significant, size, times

FLAT, SQ8, PQ, LUCENE = "faiss-flat", "faiss-ivf-sq8", "faiss-ivf-pq", "lucene"
HNSW, IVF = ("faiss-hnsw", "hnswlib", "usearch"), (SQ8, PQ, "faiss-rabitq")
STORES = {"flat float32": FLAT, "SQ8": SQ8, "PQ": PQ}
NOT_REACHED = "not reached"
LOWER = "†"


@dataclass(frozen=True)
class Comparison:
    """A lexicon search in one call, and its cells: times faster than each of the dense sides, by name."""

    search: Search
    call: Call
    faster: dict[str, Cell]


def lexicon_side(sweep: Sweep) -> list[Search]:
    """`impact` at every number of lexicons kept, all else the same, fewest first; then Lucene."""
    found = sweep.at(sweep.largest, "lexicon")
    impact = [search for search in found if search.engine == "impact"]
    settings = [(search.bits, search.query_top_k) for search in impact]
    if impact:
        common = max(settings, key=lambda setting: (settings.count(setting), setting == (8, None)))
        impact = [search for search, setting in zip(impact, settings, strict=True) if setting == common]
    return impact + [search for search in found if search.engine == LUCENE]


def comparisons(sweep: Sweep) -> list[Comparison]:
    """Each lexicon search in each call, against the dense engines with as many threads."""
    dense = sweep.at(sweep.largest, "dense")
    on_cpu = [search for search in dense if not search.engine.endswith("-gpu")]
    on_gpu = [search for search in dense if search.engine.endswith("-gpu")]
    found = []
    for call in sweep.calls(sweep.largest):
        for search in lexicon_side(sweep):
            flat = engine(dense, FLAT)
            cells = {
                f"flat {mode}": faster(sweep, search, call, flat, Call(mode, call.threads))
                for mode in ("single", "batched")
            }
            for name, rivals in (("hnsw", engine(dense, *HNSW)), ("ivf", engine(dense, *IVF)), ("any", on_cpu)):
                cells[name] = faster(sweep, search, call, rivals)
            if on_gpu:
                cells["gpu"] = faster(sweep, search, call, on_gpu)
            found.append(Comparison(search, call, cells))
    return found


def broken(searches: Iterable[Search]) -> list[str]:
    """How engines ended that did not end well, each once in a sentence."""
    return list(dict.fromkeys(f"{search.engine}: {search.problem}" for search in searches if search.problem))


def engine(searches: Iterable[Search], *names: str) -> list[Search]:
    return [search for search in searches if search.engine in names]


def faster(sweep: Sweep, mine: Search, call: Call, rivals: list[Search], theirs: Call | None = None) -> Cell:
    """How many times the QPS of the fastest rival whose R@1 is as good; in words where there is none. `theirs`: the rivals' call, if another."""
    theirs = theirs or call
    rate = mine.rate(call)
    if rate is None or mine.recall is None:
        return Cell(missing=mine.timed(call).missing or mine.cell("recall@1").missing or NOT_MEASURED)
    good = [rival for rival in rivals if sweep.as_good(rival, mine)]
    timed = [rival for rival in good if rival.rate(theirs)]
    if timed:
        best = max(timed, key=lambda rival: rival.rate(theirs))
        n = f"{best.label}, {theirs.label}: R@1 {percent(best.recall)} %, {significant(best.rate(theirs))} queries/s"
        behind = points_of(mine, call) + points_of(best, theirs)
        return Cell(rate / best.rate(theirs), n=n, points=behind)
    if good:
        return Cell(missing=good[0].timed(theirs).missing or NOT_MEASURED)
    best = max((rival.recall for rival in rivals if rival.recall is not None), default=None)
    if best is not None:
        return Cell(missing=NOT_REACHED, n=f"the best R@1 is {percent(best)} %")
    return Cell(missing=next((rival.problem for rival in rivals if rival.problem), NOT_MEASURED))


def smaller(sweep: Sweep, mine: Search, stores: list[Search]) -> Cell:
    """Bytes per image of the smallest store over those of the index; marked where no search of that store is as good as the index in R@1."""
    stores = [store for store in stores if store.bytes_per_image]
    if not mine.bytes_per_image:
        return mine.cell("bytes_per_image") if mine.problem else Cell(missing=NOT_MEASURED)
    if not stores:
        return Cell(missing=NOT_MEASURED)
    least = min(store.bytes_per_image for store in stores)
    same = [store for store in stores if store.bytes_per_image == least]
    best = max(same, key=lambda store: store.recall or 0)
    mark = LOWER if mine.recall is not None and best.recall is not None and not sweep.as_good(best, mine) else ""
    n = f"{best.label}: {size(least)} per image" + (
        f", R@1 at most {percent(best.recall)} %" if best.recall is not None else ""
    )
    return Cell(least / mine.bytes_per_image, mark=mark, n=n, points=points_of(mine) + points_of(best))


def sizes(sweep: Sweep, mine: Search) -> dict[str, Cell]:
    """How many times smaller the index is than each of the dense stores."""
    dense = sweep.at(sweep.largest, "dense")
    found = {}
    for store, name in STORES.items():
        stores = engine(dense, name)
        cell = smaller(sweep, mine, stores)
        broken = next((search.problem for search in stores if search.problem), "")
        found[store] = Cell(missing=broken) if cell.missing == NOT_MEASURED and broken else cell
    return found


def points_of(search: Search, call: Call | None = None) -> tuple[str, ...]:
    measured = (search.accuracy, search.calls.get(call) if call else None)
    return tuple(one.point_id for one in measured if one)


def flat_search(sweep: Sweep) -> Search | None:
    """The flat index, where its R@1 was measured."""
    found = [search for search in engine(sweep.at(sweep.largest, "dense"), FLAT) if search.recall is not None]
    return max(found, key=lambda search: search.recall, default=None)


def range_of(values: list[float]) -> str:
    low, high = times(min(values)), times(max(values))
    return low if low == high else f"{low} to {high}"


def gain(values: list[float], better: str, worse: str) -> str:
    """The range of ratios as a reader says it: "2.00× to 3.00× faster", "1.50× slower", "1.50× slower to 3.00× faster"."""
    if min(values) >= 1:
        return f"{range_of(values)} {better}"
    if max(values) < 1:
        return f"{range_of([1 / value for value in values])} {worse}"
    return f"{times(1 / min(values))} {worse} to {times(max(values))} {better}"


def keeping(searches: Iterable[Search]) -> str:
    """ "impact with 4, 8 and 16 lexicons kept", and Lucene by name."""
    searches = list(searches)
    impact = ["all" if search.top_k is None else str(search.top_k) for search in searches if search.engine == "impact"]
    parts = [f"impact with {_and(impact)} lexicons kept"] if impact else []
    return _and(parts + ["Lucene"] * any(search.engine == LUCENE for search in searches))


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def range_cell(cells: list[Cell], better: str, worse: str, called: str = "") -> Cell:
    """The range of ratios in words, how it was called, and how many had no rival."""
    found = [cell for cell in cells if not cell.missing]
    if not found:
        return Cell(missing=next((cell.missing.partition(":")[0] for cell in cells), NOT_MEASURED))
    behind = tuple(dict.fromkeys(point for cell in found for point in cell.points))
    above = len([cell for cell in cells if cell.missing.startswith(NOT_REACHED)])
    rest = f"; {NOT_REACHED} in {above} of {len(cells)}" if above else ""
    return Cell(f"{gain([cell.value for cell in found], better, worse)}{called}{rest}", points=behind)
