"""The published claim against a sweep: how many times faster and smaller, at equal R@1.

A speedup counts only against a dense search of equal R@1 (`findings.paired.as_good`). The call that is compared moves
it as much as the engine, so flat search is shown in both calls; so does top-k, so each has its row.
"""

from reports.findings.above_flat import AboveFlat, above_flat, against_flat
from reports.findings.paper import SIZE, SPEED
from reports.findings.ratios import (
    ENDS,
    FLAT,
    LOWER,
    NOT_REACHED,
    STORES,
    Comparison,
    Range,
    comparisons,
    engine,
    flat_search,
    lexicon_side,
    range_of,
    sizes,
)
from reports.findings.verdict import EQUAL_RECALL
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import Search
from reports.records.sweep import Sweep, sweeps
from reports.render.tables import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    integer,
    p_value,
    percent,
    points,
    significant,
    size,
    times,
)

NOT_STATED = "not stated"
MARK = "*"
DENSE = {
    "flat single": "flat, single", "flat batched": "flat, batched", "hnsw": "HNSW", "ivf": "IVF (SQ8, PQ)",
    "any": "fastest", "gpu": "fastest GPU",
}  # fmt: skip


def section(evidence: Evidence) -> Section:
    found, made = [], []
    for sweep in sweeps(evidence):
        rows, shown = comparisons(sweep), []
        if sweep.has_task and rows:
            tables = [paper_table(sweep, rows), above_flat_table(sweep), speed_table(sweep, rows), size_table(sweep)]
            shown = [table for table in tables if table]
        made += shown
        found.append({"sweep": sweep, "tables": [table.name for table in shown]})
    data = {"sweeps": found}
    return Section("scale", "At scale: the claim against the measurement", tables=made, data=data, folder="scale")


def paper_table(sweep: Sweep, rows: list[Comparison]) -> Table:
    """The two versions of the paper beside the range over all top-k, for `impact` and Lucene."""
    side, made = lexicon_side(sweep), []
    engines = list(dict.fromkeys(search.engine for search in side))
    above = Range(None, None, 0, 0)

    def line(what: str, name: str, paper: tuple, equal: Range, above: Range = above) -> None:
        v1, iccv = paper[1:] or (NOT_STATED, NOT_STATED)
        cells = {"what": Cell(what), "engine": Cell(name), "v1": Cell(v1), "iccv": Cell(iccv)}
        cells["count"] = Cell(f"{equal.count} of {equal.of}")
        for key, found, missing in (("equal", equal, NOT_REACHED), ("above", above, NOT_APPLICABLE)):
            cells |= {f"{key} {end}": found.cell(end, missing) for end in ENDS}
        made.append(cells)

    for call in sweep.main_calls:
        for name in engines:
            paper = SPEED if call.mode == "single" else ()
            line(f"Speed against flat, {call.label}", name, paper, *against_flat(sweep, rows, call, name))
    for call in sweep.main_calls:
        for name in engines:
            mine = (row.speedup["any"] for row in rows if row.call == call and row.search.engine == name)
            line(f"Speed against the fastest dense engine, {call.label}", name, (), range_of(mine))
    for store, flat in STORES.items():
        for name in engines:
            stored = range_of(sizes(sweep, search)[store] for search in engine(side, name))
            line(f"Index against {store}", name, SIZE if flat == FLAT else (), stored)
    columns = (
        Column("what", "Compared"),
        Column("engine", "Engine"),
        Column("v1", "arXiv v1"),
        Column("iccv", "ICCV version"),
        *(Column(f"equal {end}", end, times, "Times better, range over top-k") for end in ENDS),
        Column("count", "top-k with a ratio", group="Times better, range over top-k"),
        *(Column(f"above {end}", end, times, "At an R@1 that flat search does not reach") for end in ENDS),
    )
    notes = (
        "Speed: against dense searches of equal R@1; below 1× the dense side is faster. Where flat search does not "
        "reach the R@1, no ratio at equal quality exists; the last columns have the ratio of rates. Paper: Luo et al., "
        "2023 (arXiv 2302.02908), Lucene over 1M distractor images; v1 is a range over top-k, ICCV one point.",
    )
    caption = f"The claim against the measurement: {sweep.title}"
    return Table(sweep.named("scale_claim"), caption, columns, made, notes)


def above_flat_table(sweep: Sweep) -> Table | None:
    """Both sides of each search whose R@1 flat search does not reach; None if there is none."""
    rows = [
        {
            "search": Cell(one.search.engine),
            "top_k": _top_k(one.search),
            "called": Cell(one.call.label),
            "recall@1": sweep.recall_cell(one.search),
            "flat recall@1": sweep.recall_cell(one.flat),
            "gap": _gap(one),
            "p": Cell(one.p) if one.p is not None else Cell(missing=NOT_MEASURED),
            "qps": one.search.timed(one.call),
            "flat qps": one.flat.timed(one.call),
            "ratio": Cell(one.ratio, points=one.points),
        }
        for one in above_flat(sweep)
    ]
    if not rows:
        return None
    columns = (
        Column("search", "Lexicon engine"),
        Column("top_k", "Top-k", integer),
        Column("called", "Call"),
        Column("recall@1", "lexicon", percent, "R@1, %"),
        Column("flat recall@1", "flat", percent, "R@1, %"),
        Column("gap", "difference, points", points, "R@1, %"),
        Column("p", "p", p_value, "R@1, %"),
        Column("qps", "lexicon", significant, "QPS"),
        Column("flat qps", "flat", significant, "QPS"),
        Column("ratio", "ratio", times, "QPS"),
    )
    notes = (
        "p: exact paired test over the same queries, grouped by image, after Holm's correction over the lexicon "
        f"searches; {MARK} below {sweep.evidence.reading.significant:g}. Intervals: over images, not "
        "corrected. Both sides have the same call and threads.",
    )
    caption = f"Where flat search does not reach the R@1: {sweep.title}"
    return Table(sweep.named("scale_above_flat"), caption, columns, rows, notes)


def speed_table(sweep: Sweep, rows: list[Comparison]) -> Table:
    """Speedup of each lexicon search in each call over the dense sides of equal R@1."""
    shown = {name: label for name, label in DENSE.items() if any(name in row.speedup for row in rows)}
    if all(row.speedup["gpu"].missing for row in rows if "gpu" in row.speedup):
        shown.pop("gpu", None)
    columns = (
        Column("search", "Lexicon engine"),
        Column("top_k", "Top-k", integer),
        Column("called", "Call"),
        Column("recall@1", "R@1, %", percent),
        Column("qps", "QPS", integer),
        *(Column(name, label, times, "Speedup over dense search of equal R@1") for name, label in shown.items()),
    )
    made = [
        {
            "search": _name(sweep, row.search),
            "top_k": _top_k(row.search),
            "called": Cell(row.call.label),
            "recall@1": sweep.recall_cell(row.search),
            "qps": row.search.timed(row.call),
            **row.speedup,
        }
        for row in rows
    ]
    flat, dense = flat_search(sweep), sweep.at(sweep.largest, "dense")
    broken = dict.fromkeys(f"{search.engine}: {search.problem}" for search in dense if search.problem)
    notes = (
        f"Equal R@1: at least as high, or lower by less than {100 * EQUAL_RECALL:g} points and not significantly "
        f"(exact paired test). {NOT_REACHED}: no measured search is that good. Below 1×, the dense side "
        "is faster. Equal threads."
        f"{f' R@1 of flat search: {percent(flat.recall)} %.' if flat else ''}",
        *(f"Missing: {one}." for one in broken),
    )
    return Table(sweep.named("scale_speed"), f"Speed at equal R@1: {sweep.title}", columns, made, notes)


def size_table(sweep: Sweep) -> Table:
    """Bytes per image of each lexicon index, and how many times smaller it is than each dense store."""
    columns = (
        Column("search", "Lexicon engine"),
        Column("top_k", "Top-k", integer),
        Column("recall@1", "R@1, %", percent),
        Column("bytes_per_image", "Per image", size),
        *(Column(store, store, times, "Times smaller than the dense store") for store in STORES),
    )
    made = [
        {
            "search": _name(sweep, search),
            "top_k": _top_k(search),
            "recall@1": sweep.recall_cell(search),
            "bytes_per_image": search.cell("bytes_per_image"),
            **sizes(sweep, search),
        }
        for search in lexicon_side(sweep)
    ]
    known = []
    for store, name in STORES.items():
        stored = [s.bytes_per_image for s in engine(sweep.at(sweep.largest, "dense"), name) if s.bytes_per_image]
        known += [f"{store} {size(min(stored))}"] if stored else []
    notes = (
        f"Dense bytes per image on disk: {', '.join(known) or NOT_MEASURED}; the smallest of each store, whatever its "
        f"R@1. {LOWER} its R@1 is lower than that of the row.",
    )
    return Table(sweep.named("scale_size"), f"Index size: {sweep.title}", columns, made, notes)


def _gap(one: AboveFlat) -> Cell:
    behind = one.search.points() + one.flat.points()
    if one.gap is None:
        return Cell(one.search.recall - one.flat.recall, points=behind)
    n = f"{one.gap.queries:,} paired queries of {one.gap.groups:,} images"
    return Cell(one.gap.value, one.gap.low, one.gap.high, one.p, MARK if one.better else "", n, points=behind)


def _name(sweep: Sweep, search: Search) -> Cell:
    several = len({one.variant for one in lexicon_side(sweep)}) > 1
    return Cell(f"{search.variant}, {search.engine}" if several else search.engine)


def _top_k(search: Search) -> Cell:
    return Cell("all" if search.top_k is None else search.top_k)
