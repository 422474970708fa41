"""The published claim against what a sweep measured: how many times faster and smaller, at equal quality, losses first.

A speed-up stands only against a dense search of equal R@1 (`Sweep.as_good`). Which call is compared moves it as much as which engine, so the
flat index is shown both ways; numbers of lexicons kept move it as much again, so each has its row.
"""

from collections.abc import Callable

from reports.findings import scale_beyond
from reports.findings.paper import SIZE, SPEED
from reports.findings.scale_answer import findings, verdicts
from reports.findings.scale_ratios import (
    FLAT,
    LOWER,
    LUCENE,
    NOT_REACHED,
    STORES,
    Comparison,
    broken,
    comparisons,
    engine,
    flat_search,
    lexicon_side,
    range_cell,
    sizes,
)
from reports.findings.verdict import EQUAL_RECALL
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.scale import Call, Search, Sweep, sweeps
from reports.render.tables import Cell, Column, Table, integer, percent, size, times

NOT_STATED = "not available"


def section(evidence: Evidence) -> Section:
    found, made = [], []
    for sweep in sweeps(evidence):
        rows = comparisons(sweep)
        shown = []
        if sweep.judged and rows:
            made_of = [paper_table(sweep, rows), scale_beyond.table(sweep), speed_table(sweep, rows), size_table(sweep)]
            shown = [table for table in made_of if table]
        made += shown
        said = findings(sweep, rows) if shown else []
        holds = verdicts(sweep, rows) if shown else []
        found.append({"sweep": sweep, "tables": [table.name for table in shown], "findings": said, "holds": holds})
    return Section("scale", "At scale: the claim against the measurement", tables=made, data={"sweeps": found})


def paper_table(sweep: Sweep, rows: list[Comparison]) -> Table:
    """The paper's two versions beside the range that was found over all numbers of lexicons kept."""
    ratios = {search: sizes(sweep, search) for search in lexicon_side(sweep)}
    calls = [call for call in (sweep.call("single"), sweep.call("batched")) if call]
    made = []

    def line(what: str, paper: tuple, cell: Callable[[str], Cell]) -> None:
        v1, iccv = paper[1:] or (NOT_STATED, NOT_STATED)
        made.append(
            {"what": Cell(what), "v1": Cell(v1), "iccv": Cell(iccv)} | {name: cell(name) for name in ("impact", LUCENE)}
        )

    for call in calls:
        paper = SPEED if call.mode == "single" else ()
        line(
            f"Speed against flat, {call.label}",
            paper,
            lambda name, call=call: scale_beyond.against_flat(sweep, rows, call, name),
        )
    for call in calls:
        line(
            f"Speed against the fastest dense engine, {call.label}",
            (),
            lambda name, call=call: _against_any(rows, call, name),
        )
    for store, flat in STORES.items():
        paper = SIZE if flat == FLAT else ()
        line(f"Index against {store}", paper, lambda name, store=store: _stored(ratios, store, name))
    columns = [
        Column("what", "What"),
        Column("v1", "arXiv v1"),
        Column("iccv", "ICCV version"),
        Column("impact", "Measured here: impact"),
    ]
    if any(search.engine == LUCENE for search in lexicon_side(sweep)):
        columns.append(Column(LUCENE, "Measured here: Lucene"))
    notes = (
        "The range of v1 is a sweep over the number of lexicons kept; the ICCV figure is one operating point. Quoted from Luo et al., 2023 (arXiv 2302.02908), "
        f"who searched with Lucene over 1M distractor images. Measured here: the range over all numbers of lexicons kept, speed against dense searches whose R@1 is at least as high; {NOT_REACHED}: none is. Where flat search has a lower R@1, the next table has both numbers.",
    )
    return Table(
        sweep.named("scale_claim"), f"The claim against the measurement: {sweep.title}", tuple(columns), made, notes
    )


def speed_table(sweep: Sweep, rows: list[Comparison]) -> Table:
    at_least = "Times faster than a dense search of equal R@1"
    columns = [
        Column("search", "Lexicon side"), Column("top_k", "Kept", integer), Column("called", "Called"), Column("recall@1", "R@1, %", percent),
        Column("qps", "QPS", integer), Column("flat single", "flat, one at a time", times, at_least), Column("flat batched", "flat, in batches", times, at_least),
        Column("hnsw", "HNSW", times, at_least), Column("ivf", "IVF (SQ8, PQ)", times, at_least), Column("any", "the fastest", times, at_least),
    ]  # fmt: skip
    if any("gpu" in row.faster and not row.faster["gpu"].missing for row in rows):
        columns.append(Column("gpu", "the fastest on the GPU", times, at_least))
    made = [
        {
            "search": _name(sweep, row.search),
            "top_k": _top_k(row.search),
            "called": Cell(row.call.label),
            "recall@1": sweep.recall_cell(row.search),
            "qps": row.search.timed(row.call),
            **row.faster,
        }
        for row in rows
    ]
    flat = flat_search(sweep)
    notes = (
        f"Equal R@1: against the fastest dense search whose R@1 is at least that of the row, or lower by less than {100 * EQUAL_RECALL:g} points and by no more than chance "
        f"(exact paired test over the same queries, 5%); {NOT_REACHED}: none that was measured is that good. Below 1×, the dense side is faster."
        f"{f' R@1 of flat search is {percent(flat.recall)} %.' if flat else ''}",
        *(f"Without {one}." for one in broken(sweep.at(sweep.largest, "dense"))),
        "Both sides with as many threads. HNSW: of FAISS, hnswlib and usearch, the fastest; the fastest: of all dense engines on the CPU.",
    )
    return Table(sweep.named("scale_speed"), f"Speed at equal R@1: {sweep.title}", tuple(columns), made, notes)


def size_table(sweep: Sweep) -> Table:
    group = "Times smaller than the dense store"
    columns = (
        Column("search", "Lexicon side"), Column("top_k", "Kept", integer), Column("recall@1", "R@1, %", percent), Column("bytes_per_image", "Per image", size),
        *(Column(store, store, times, group) for store in STORES),
    )  # fmt: skip
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
    dense = sweep.at(sweep.largest, "dense")
    stored = {
        store: [one.bytes_per_image for one in engine(dense, name) if one.bytes_per_image]
        for store, name in STORES.items()
    }
    known = [f"{store} {size(min(found))}" for store, found in stored.items() if found]
    stores = f"Bytes per image, measured on disk: {', '.join(known)}. " if known else ""
    notes = (
        f"{stores}A store counts at its smallest, whatever its R@1. {LOWER} its R@1 stays below that of the row, where equal is as in the table of speeds.",
    )
    return Table(sweep.named("scale_size"), f"Index size: {sweep.title}", columns, made, notes)


def _name(sweep: Sweep, search: Search) -> Cell:
    several = len({one.variant for one in lexicon_side(sweep)}) > 1
    return Cell(f"{search.variant}, {search.engine}" if several else search.engine)


def _top_k(search: Search) -> Cell:
    return Cell("all" if search.top_k is None else search.top_k)


def _against_any(rows: list[Comparison], call: Call, name: str) -> Cell:
    return range_cell(
        [row.faster["any"] for row in rows if row.call == call and row.search.engine == name], "faster", "slower"
    )


def _stored(ratios: dict[Search, dict[str, Cell]], store: str, name: str) -> Cell:
    return range_cell([cells[store] for search, cells in ratios.items() if search.engine == name], "smaller", "larger")
