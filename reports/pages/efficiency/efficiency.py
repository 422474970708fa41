"""Recall, speed and size of every search of the variants."""

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import MODES, Call, Search
from reports.records.variants import OF_CALL, OF_SEARCH, searches_of_variants
from reports.render.figures import Figure, Panel, Series, draw, palette
from reports.render.tables import NOT_APPLICABLE, NOT_MEASURED, Cell, Column, Table, integer, percent, significant, size

R1 = "R@1, text to image, %"


def section(evidence: Evidence) -> Section:
    r, searches = evidence.reading, searches_of_variants(evidence)
    main = [search for search in searches if search.variant in (r.reference, r.baseline)]
    gallery = f"Text to image over {evidence.gallery.get(('test', 'text_to_image')) or 0:,.0f} images"
    tables = [
        table("efficiency", f"{gallery}: {r.reference} and {r.baseline}", main),
        table("efficiency_all", f"{gallery}: all variants", searches),
    ]
    figures = [figure(evidence, searches)] if searches else []
    return Section("efficiency", "Recall, speed and size of the variants", tables, figures, folder="efficiency")


def table(name: str, caption: str, searches: list[Search]) -> Table:
    """One row for each search and call; one row for a search without a call."""
    recall, index = "Recall, %", "Index"
    columns = (
        Column("variant", "Variant"),
        Column("engine", "Engine"),
        Column("top_k", "Top-k", integer),
        Column("bits", "Bits", integer),
        Column("called", "Call"),
        Column("threads", "Threads", integer),
        Column("recall@1", "R@1", percent, recall),
        Column("recall@10", "R@10", percent, recall),
        Column("overlap@10", "of the exact top 10", percent, recall),
        Column("qps", "QPS", significant),
        *(Column(f"latency_p{p}_us", f"p{p}", integer, "Latency, µs") for p in (50, 95, 99)),
        Column("bytes_per_image", "per image", size, index),
        Column("build_seconds", "build, s", significant, index),
        Column("note", "Note"),
    )
    rows = [_row(search, call) for search in searches for call in search.calls or [None]]
    notes = ("R@K: over all test captions. Of the exact top 10: overlap with brute force on un-pruned vectors.",)
    return Table(name, caption, columns, rows, notes)


def _row(search: Search, call: Call | None) -> dict[str, Cell]:
    dense = search.kind == "dense"
    threads = call.threads if call else None
    cells = {
        "variant": Cell(search.variant),
        "engine": Cell(search.engine),
        "top_k": Cell("dense" if dense else "all" if search.top_k is None else search.top_k),
        "bits": Cell("float" if search.bits is None else search.bits),
        "called": Cell(MODES[call.mode] if call else NOT_APPLICABLE),
        "threads": Cell(NOT_APPLICABLE if threads is None else threads),
        "note": Cell(search.calls[call].note if call else ""),
    }
    cells |= {metric: search.cell(metric) for metric in OF_SEARCH}
    for metric in OF_CALL:
        cells[metric] = search.timed(call, metric) if call else Cell(missing=NOT_MEASURED)
    return cells


def figure(evidence: Evidence, searches: list[Search]) -> Figure:
    """R@1 against QPS (filled: batches, hollow: single queries) and against bytes per image."""
    r = evidence.reading
    speed = [
        one
        for mode in reversed(MODES)
        for one in _series(evidence, [(s, c) for s in searches for c in s.calls if c.mode == mode], mode == "batched")
    ]
    once = list({(search.variant, search.setting): (search, None) for search in searches}.values())
    sizes = _series(evidence, once, filled=True)
    compared = [s for s in searches if s.variant in (r.reference, r.baseline) and s.recall is not None]
    alt = " ".join(_in_words(search, call) for search in compared for call in search.calls if search.rate(call))
    caption = (
        "R@1 against speed (filled: batches, hollow: single queries) and against size; costs on log scales. Labels: "
        f"top-k; variants other than {r.reference} and {r.baseline} with {r.top_k} only. Bars: 95% intervals of R@1."
    )
    panels = [
        Panel("R@1 against speed", "queries per second (log scale)", R1, speed, log_x=True),
        Panel("R@1 against size", "index bytes per image (log scale)", R1, sizes, log_x=True),
    ]
    return draw("efficiency", caption, f"R@1, speed and size of {len(searches)} searches. {alt}", panels)


def _in_words(search: Search, call: Call) -> str:
    recall, rate = percent(search.recall), significant(search.rate(call))
    return f"{search.variant}, {search.label}, {call.label}: R@1 {recall} %, {rate} queries/s."


def _series(evidence: Evidence, found: list[tuple[Search, Call | None]], filled: bool) -> list[Series]:
    """R@1 against QPS of a call, or against bytes without one; a series for each variant."""
    r, looks, series = evidence.reading, palette(evidence.variants), []
    for variant in evidence.variants:
        engine = evidence.operating_point(variant)["engine"]
        strong, dense = variant in (r.reference, r.baseline), evidence.kinds.get(variant) == "dense"
        points = []
        for search, call in found:
            x = search.rate(call) if call else search.bytes_per_image
            mine = (search.variant, search.engine) == (variant, engine)
            # Other variants at their operating point only, or the figure is unreadable.
            if mine and x and search.recall is not None and (strong or dense or search.top_k == r.top_k):
                points.append((x, search))
        if not points:
            continue
        recalls = [search.cell("recall@1") for _, search in points]
        bounds = [None if c.low is None or not strong else (100 * c.low, 100 * c.high) for c in recalls]
        labels = [str(search.top_k or ("" if dense else "all")) for _, search in points] if strong else None
        x, y = [x for x, _ in points], [100 * cell.value for cell in recalls]
        line = strong and len(points) > 1
        series.append(Series(variant, x, y, bounds, labels, line=line, filled=filled, strong=strong, **looks[variant]))
    return series
