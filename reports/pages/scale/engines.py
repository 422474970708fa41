"""Every way of searching that a sweep measured: quality, size, build, memory, latency and rates, at each gallery size; quality against speed; end to end."""

import math

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.scale import CEILING, KINDS, Call, Search, Sweep, chosen, sweeps
from reports.render.figures import COLOURS, Figure, Panel, Series, draw
from reports.render.tables import NOT_APPLICABLE, NOT_MEASURED, Cell, Column, Table, integer, percent, significant, size

QUALITY = (
    "recall@1",
    "recall@5",
    "recall@10",
    "engine_recall@10",
    "bytes_per_image",
    "build_seconds",
    "resident_bytes",
)
LATENCIES = tuple(f"latency_p{share}_us" for share in (50, 95, 99))
FEW_DECADES = 100
LOADED = "loaded machine"
LOOKS = {"lexicon": {"colour": COLOURS[0], "marker": "o"}, "dense": {"colour": COLOURS[1], "marker": "s"}}


def section(evidence: Evidence) -> Section | None:
    found, tables, figures = [], [], []
    for sweep in sweeps(evidence):
        by_size = [engine_table(sweep, images) for images in reversed(sweep.sizes)]
        ends = [end_to_end(sweep)] if sweep.encoding else []
        drawn = [figure(sweep)] if sweep.judged and sweep.calls(sweep.largest) else []
        tables += by_size + ends
        figures += drawn
        names = {
            "largest": by_size[0].name,
            "others": [table.name for table in by_size[1:]],
            "end_to_end": [table.name for table in ends],
        }
        found.append({"sweep": sweep, "figures": [one.name for one in drawn], **names})
    return Section("scale_engines", "At scale: every engine", tables, figures, {"sweeps": found}) if found else None


# --- the engines ------------------------------------------------------------------------------------------------------------------


def engine_table(sweep: Sweep, images: int) -> Table:
    """A row for each way of searching `images` images, and last the ceiling of the harness. An engine that never ended well has one row for all its knobs."""
    calls = sweep.calls(images)
    searches = sweep.at(images)
    limited = [call for call in calls if any(not search.timed(call, "limit_qps").missing for search in searches)]
    several = len({search.variant for search in searches}) > len({search.kind for search in searches})
    columns = [
        Column("search", "Engine and knobs"), Column("kind", "Kind"), *([Column("variant", "Variant")] if several else []),
        *(Column(f"recall@{k}", f"R@{k}", percent, "Task, %") for k in (1, 5, 10)),
        Column("engine_recall@10", "recall@10", percent, "Engine, %"), Column("bytes_per_image", "Per image", size),
        *(Column(f"{call.key} qps", call.short, integer, "QPS (mode, threads)") for call in calls),
    ]  # fmt: skip
    for call in calls:
        if call.mode == "single":
            columns += [
                Column(f"{call.key} p{share}", f"p{share}", integer, _heading("Latency, µs", call))
                for share in (50, 95, 99)
            ]
    for call in limited:
        columns += [
            Column(f"{call.key} limit", "QPS", integer, _heading("Limit", call)),
            Column(f"{call.key} share", "reached, %", percent, _heading("Limit", call)),
        ]
    columns += [
        Column("build_seconds", "Build, s", significant),
        Column("resident_bytes", "In memory", size),
        Column("note", "Noted"),
    ]
    rows = [_row(search, calls) for search in _collapsed(searches)] + [
        _row(search, calls) for search in _ceilings(sweep, images)
    ]
    notes = [
        "R@K: of the task, over all queries. Engine recall@10: share of the exact top 10 over what the index was given. Single: one query at a time; batched: all at once. Latency: of single queries. Per image: on disk; in memory: growth by loading and searching."
    ]
    if limited:
        notes.append(
            "Limit: memory bandwidth, measured at as many threads, over the postings that exhaustive scoring must read."
        )
    if _ceilings(sweep, images):
        notes.append(
            f"{CEILING}: an engine that answers at once with nothing; no engine can be seen to be faster than it."
        )
    if images == sweep.largest:
        notes += sweep.vectors(images)
    name = f"scale_engines_{images}"
    return Table(
        sweep.named(name),
        f"Engines over {integer(images)} images: {sweep.corpus}, {sweep.machine}",
        tuple(columns),
        rows,
        tuple(notes),
    )


def _heading(what: str, call: Call) -> str:
    return f"{what} ({call.short})"


def _collapsed(searches: list[Search]) -> list[tuple[Search, int]]:
    """Searches with how many settings each stands for: those of an engine that ended in the same way, without a number, stand as one."""
    found: dict[tuple, tuple[Search, int]] = {}
    for search in searches:
        measured = any(not point.problem for point in (search.accuracy, *search.calls.values()) if point)
        key = (search,) if measured else (search.kind, search.variant, search.engine, search.problem)
        found[key] = (found[key][0] if key in found else search, found[key][1] + 1 if key in found else 1)
    return list(found.values())


def _ceilings(sweep: Sweep, images: int) -> list[tuple[Search, int]]:
    return [(search, 1) for search in sweep.searches if search.images == images and search.engine == CEILING]


def _row(counted: tuple[Search, int], calls: list[Call]) -> dict[str, Cell]:
    search, count = counted
    cells = {
        "search": Cell(search.label if count == 1 else f"{search.engine}, {count} settings"),
        "kind": Cell(search.kind),
        "variant": Cell(search.variant),
    }
    for metric in QUALITY:
        cells[metric] = _brief(search.cell(metric))
    if search.engine == CEILING:
        cells["search"] = Cell(CEILING)
        cells |= {metric: Cell(NOT_APPLICABLE) for metric in QUALITY}
    elif search.recall is None and not search.problem:
        cells |= {f"recall@{k}": Cell(NOT_APPLICABLE) for k in (1, 5, 10)}
    for call in calls:
        cells[f"{call.key} qps"] = _brief(search.timed(call))
        for share, metric in zip((50, 95, 99), LATENCIES, strict=True):
            cells[f"{call.key} p{share}"] = _brief(search.timed(call, metric))
        limit = search.timed(call, "limit_qps")
        rate = search.rate(call)
        if rate and not limit.missing and limit.value > 0:
            cells |= {
                f"{call.key} limit": limit,
                f"{call.key} share": Cell(rate / limit.value, n=limit.n, points=limit.points),
            }
        else:
            cells |= {f"{call.key} {key}": Cell(NOT_APPLICABLE) for key in ("limit", "share")}
    cells["note"] = Cell(_noted(search))
    return cells


def _brief(cell: Cell) -> Cell:
    """How it ended in a word or two; the note of the row has the rest."""
    return Cell(missing=cell.missing.partition(":")[0]) if cell.missing else cell


def _noted(search: Search) -> str:
    """How it ended badly, that it is not as exact as it says, and timings under load."""
    notes = [search.problem, search.accuracy.note if search.accuracy and not search.accuracy.problem else ""]
    if any(LOADED in measured.note for measured in search.calls.values() if not measured.problem):
        notes.append("timed on a loaded machine")
    return "; ".join(dict.fromkeys(note for note in notes if note))


# --- quality against speed --------------------------------------------------------------------------------------------------------


def figure(sweep: Sweep) -> Figure:
    """R@1 against QPS of every point at the largest size, with the Pareto front of each kind, a panel for single queries and one for batches."""
    panels, told = [], []
    for call in dict.fromkeys(filter(None, (sweep.call("single"), sweep.call("batched")))):
        series = []
        for kind in KINDS:
            points = [
                (search, search.rate(call))
                for search in sweep.at(sweep.largest, kind)
                if search.recall is not None and search.rate(call)
            ]
            if not points:
                continue
            front = pareto([(rate, search.recall) for search, rate in points])
            best = [points[i] for i in front]
            rest = [point for i, point in enumerate(points) if i not in front]
            series.append(_series(f"{kind}, Pareto front", best, kind, line=True, labels=_labels(best)))
            if rest:
                series.append(_series(kind, rest, kind, line=False, filled=False, strong=False))
            told.append(
                f"{call.label}, {kind}: "
                + "; ".join(f"{s.label} {percent(s.recall)} %, {integer(rate)} queries/s" for s, rate in best)
            )
        panels.append(
            Panel(
                call.label.capitalize(),
                "queries per second (log scale)",
                "R@1, text to image, %",
                series,
                log_x=True,
                ticks=ticks(series),
            )
        )
    caption = (
        f"R@1 against speed over {integer(sweep.largest)} images ({sweep.corpus}, {sweep.machine}): every engine, number of lexicons kept and knob. Up is better, to the right is faster. "
        "Filled markers and lines: the Pareto front, points that no other point of the same kind beats in both. Numbers: lexicons kept by impact at 8 bits."
    )
    return draw(
        sweep.named("scale_efficacy"),
        caption,
        "R@1 against queries per second. Pareto fronts: " + ". ".join(told) + ".",
        panels,
    )


def _labels(front: list[tuple[Search, float]]) -> list[str]:
    """Lexicons kept of `impact`, where that is what differs; names of dense engines would cover each other."""
    return [
        str(s.top_k or "all") if s.engine == "impact" and s.bits == 8 and not s.query_top_k else "" for s, _ in front
    ]


def ticks(series: list[Series]) -> tuple[float, ...]:
    """Powers of ten, which do not run into each other; with 2 and 5 where there are few."""
    rates = [rate for one in series for rate in one.x]
    if not rates:
        return ()
    few = max(rates) / min(rates) < FEW_DECADES
    exponents = range(math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates))) + 1)
    return tuple(step * 10.0**exponent for exponent in exponents for step in ((1, 2, 5) if few else (1,)))


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points that none is at least as high as in both coordinates and higher in one; slowest first. Of equal points, all."""
    found, best = [], float("-inf")
    for x in sorted({x for x, _ in points}, reverse=True):
        top = max(y for each, y in points if each == x)
        if top > best:
            found = [i for i, point in enumerate(points) if point == (x, top)] + found
            best = top
    return found


def _series(name: str, points: list[tuple[Search, float]], kind: str, **look) -> Series:
    return Series(
        name, [rate for _, rate in points], [100 * search.recall for search, _ in points], **LOOKS[kind], **look
    )


# --- end to end -------------------------------------------------------------------------------------------------------------------


def end_to_end(sweep: Sweep) -> Table:
    """Median time from text to vector, from vector to results, and their sum, for one setting of each engine at the largest size."""
    single = sweep.call("single")
    rows = []
    for search in chosen(sweep) if single else ():
        if search.images != sweep.largest:
            continue
        encoded = sweep.encoding.get((search.variant, single.threads))
        encode = _brief(encoded.cell("encode_text_latency_p50_us")) if encoded else Cell(missing=NOT_MEASURED)
        found = _brief(search.timed(single, "latency_p50_us"))
        whole, share = Cell(missing=NOT_MEASURED), Cell(missing=NOT_MEASURED)
        if not encode.missing and not found.missing:
            behind = encode.points + found.points
            whole = Cell(encode.value + found.value, points=behind)
            share = Cell(encode.value / whole.value if whole.value else 0.0, points=behind)
        rows.append({"search": Cell(search.label), "kind": Cell(search.kind), "variant": Cell(search.variant),
                     "encode": encode, "found": found, "whole": whole, "share": share})  # fmt: skip
    columns = (
        Column("search", "Engine and knobs"), Column("kind", "Kind"), Column("variant", "Encoder"),
        Column("encode", "text to vector", integer, "Median, µs"), Column("found", "search", integer, "Median, µs"), Column("whole", "both", integer, "Median, µs"),
        Column("share", "Spent on encoding, %", percent),
    )  # fmt: skip
    called = f", {single.label}" if single else ""
    notes = (
        "Both is the sum of the two medians. Speeds elsewhere in this report are of search alone. One setting of each engine: the one measured at most gallery sizes, then of the highest R@1.",
    )
    return Table(sweep.named("scale_end_to_end"), f"From text to results{called}: {sweep.title}", columns, rows, notes)
