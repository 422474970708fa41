"""Efficacy against efficiency: every measured engine, number of lexicons kept, and calling mode.

Accuracy and size are measured over all queries, in one point; rates and latencies in points of their own, one per calling mode. A row
here joins them: the same vectors, engine, lexicons kept and bits.
"""

import functools

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence, filtered
from reports.render.figures import Figure, Panel, Series, draw, palette
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer, percent, significant, size

SEARCHED = ["variant", "engine", "top_k", "bits", "knobs"]
CALLED = ["batch_mode", "threads", "machine_id"]
OF_SEARCH = ("recall@1", "recall@10", "bytes_per_image", "build_seconds", "overlap@10")
OF_CALL = ("qps", "latency_p50_us", "latency_p95_us", "latency_p99_us")
MODES = {"batched": "queries in batches", "single": "one query at a time"}


def section(evidence: Evidence) -> Section:
    ways = ways_of_searching(evidence)
    main = [way for way in ways if way["variant"] in (evidence.reading.reference, evidence.reading.baseline)]
    gallery = f"Text to image over {evidence.gallery.get(('test', 'text_to_image')) or 0:,.0f} images"
    made = [
        table(evidence, "efficiency", f"{gallery}: {evidence.reading.reference} and {evidence.reading.baseline}", main),
        table(evidence, "efficiency_all", f"{gallery}: every way of searching that was measured", ways),
    ]
    return Section(
        "efficiency", "Efficacy against efficiency", tables=made, figures=[figure(evidence, ways)] if ways else []
    )


@functools.lru_cache(maxsize=8)
def ways_of_searching(evidence: Evidence) -> list[dict]:
    """One dict per way of searching the test gallery and calling mode: its identity, and a Cell per metric."""
    filters = evidence.retrieval()
    rows = evidence.rows
    rows = rows[
        (rows.task == "retrieval")
        & (rows.split == "test")
        & (rows.direction == "text_to_image")
        & (rows.images == filters["images"])
    ]
    found = []
    for searched in _distinct(rows, SEARCHED):
        variant = searched["variant"]
        exactly = filters | {key: searched[key] for key in SEARCHED[1:]}
        of_search = {metric: evidence.cell(variant, metric, **exactly) for metric in OF_SEARCH}
        same = filtered(rows, searched)
        timed = same[same.batch_mode.isin(list(MODES)) & same.metric.isin(OF_CALL)]
        for called in _distinct(timed, CALLED) or [{"batch_mode": "", "threads": None, "machine_id": ""}]:
            of_call = {metric: evidence.cell(variant, metric, **exactly, **called) for metric in OF_CALL}
            if called["batch_mode"] != "single":
                of_call |= {metric: Cell(NOT_APPLICABLE) for metric in OF_CALL[1:] if of_call[metric].missing}
            note = timed[timed.batch_mode == called["batch_mode"]].note
            found.append(searched | called | of_search | of_call | {"note": note.iloc[-1] if len(note) else ""})
    order = {name: i for i, name in enumerate(evidence.variants)}
    none_last = lambda value: (value is None, value or 0)  # noqa: E731
    return sorted(
        found,
        key=lambda w: (
            order[w["variant"]],
            w["engine"],
            none_last(w["top_k"]),
            none_last(w["bits"]),
            w["batch_mode"],
            none_last(w["threads"]),
        ),
    )


def table(evidence: Evidence, name: str, caption: str, ways: list[dict]) -> Table:
    columns = (
        Column("variant", "Variant"), Column("engine", "Engine"), Column("top_k", "Kept", integer), Column("bits", "Bits", integer),
        Column("called", "Called"), Column("threads", "Threads", integer),
        Column("recall@1", "R@1", percent, "Recall, %"), Column("recall@10", "R@10", percent, "Recall, %"),
        Column("overlap@10", "of the exact top 10", percent, "Recall, %"),
        Column("qps", "QPS", significant), *(Column(f"latency_p{p}_us", f"p{p}", integer, "Latency, µs") for p in (50, 95, 99)),
        Column("bytes_per_image", "per image", size, "Index"), Column("build_seconds", "build, s", significant, "Index"),
        Column("note", "Noted by the timing"),
    )  # fmt: skip
    rows = []
    for way in ways:
        dense = evidence.kinds.get(way["variant"]) == "dense"
        plain = {
            "variant": Cell(way["variant"]),
            "engine": Cell(way["engine"]),
            "top_k": Cell("dense" if dense else "all" if way["top_k"] is None else way["top_k"]),
            "bits": Cell("float" if way["bits"] is None else way["bits"]),
            "called": Cell(MODES.get(way["batch_mode"], NOT_APPLICABLE)),
            "threads": Cell(NOT_APPLICABLE if way["threads"] is None else way["threads"]),
            "note": Cell(way["note"]),
        }
        rows.append(plain | {metric: way[metric] for metric in OF_SEARCH + OF_CALL})
    notes = (
        "Kept: lexicons kept per image. R@K is measured on all test captions; of the exact top 10: the share of it, by brute force on the un-pruned vectors, that this search returned.",
    )
    return Table(name, caption, columns, rows, notes)


def figure(evidence: Evidence, ways: list[dict]) -> Figure:
    """R@1 against QPS (filled: batched, hollow: one at a time) and against bytes per image."""
    r = evidence.reading
    speed = [
        series
        for mode in MODES
        for series in _series(evidence, [way for way in ways if way["batch_mode"] == mode], "qps", mode)
    ]
    once = list({tuple(way[key] for key in SEARCHED): way for way in ways}.values())
    sizes = _series(evidence, once, "bytes_per_image", "batched")
    told = [
        way
        for way in ways
        if way["variant"] in (r.reference, r.baseline) and not way["recall@1"].missing and not way["qps"].missing
    ]
    alt = f"R@1 against queries per second and against bytes per image, for {len(ways)} ways of searching. " + " ".join(
        map(_in_words, told)
    )
    caption = (
        "Up is better recall. Left: to the right is faster; filled markers are queries in batches, hollow ones one query at a time. "
        f"Right: to the left is smaller. Numbers beside markers: lexicons kept per image; variants other than {r.reference} and {r.baseline} are shown with {r.top_k}. "
        "Bars: 95% intervals of R@1. The axes of cost are logarithmic."
    )
    panels = [
        Panel("R@1 against speed", "queries per second (log scale)", "R@1, text to image, %", speed, log_x=True),
        Panel("R@1 against size", "index bytes per image (log scale)", "R@1, text to image, %", sizes, log_x=True),
    ]
    return draw("efficiency", caption, alt, panels)


def _in_words(way: dict) -> str:
    top_k = "" if way["top_k"] is None else f", {way['top_k']:.0f} lexicons kept"
    mode = MODES.get(way["batch_mode"], "calling mode unknown")
    return f"{way['variant']} with {way['engine']}{top_k}, {mode}: R@1 {percent(way['recall@1'].value)} %, {significant(way['qps'].value)} queries per second."


def _series(evidence: Evidence, ways: list[dict], metric: str, mode: str) -> list[Series]:
    looks = palette(evidence.variants)
    series = []
    for variant in evidence.variants:
        engine = evidence.operating_point(variant)["engine"]
        mine = [
            w
            for w in ways
            if w["variant"] == variant and w["engine"] == engine and not w[metric].missing and not w["recall@1"].missing
        ]
        mine = [w for w in mine if w[metric].value > 0]
        strong = variant in (evidence.reading.reference, evidence.reading.baseline)
        dense = evidence.kinds.get(variant) == "dense"
        if not strong and not dense:  # the others at their operating point only, or the figure cannot be read
            mine = [w for w in mine if w["top_k"] == evidence.reading.top_k]
        if not mine:
            continue
        bounds = [
            None if w["recall@1"].low is None or not strong else (100 * w["recall@1"].low, 100 * w["recall@1"].high)
            for w in mine
        ]
        labels = (
            [f"{w['top_k']:.0f}" if w["top_k"] is not None else "" if dense else "all" for w in mine]
            if strong
            else None
        )
        series.append(
            Series(variant, [w[metric].value for w in mine], [100 * w["recall@1"].value for w in mine], bounds, labels,
                   line=strong and len(mine) > 1, filled=mode == "batched", strong=strong, **looks[variant])
        )  # fmt: skip
    return series


def _distinct(rows: pd.DataFrame, columns: list[str]) -> list[dict]:
    """Distinct values of some columns, nulls as None."""
    found = rows[columns].drop_duplicates().to_dict("records")
    return [
        {key: None if not isinstance(value, str) and pd.isna(value) else value for key, value in row.items()}
        for row in found
    ]
