"""Every search of a sweep: quality, size, build, memory, latency and rates at each gallery size; and end to end."""

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import KINDS, Call, Search, pareto
from reports.records.sweep import CEILING, Sweep, chosen, sweeps
from reports.render.figures import COLOURS, Figure, Panel, Series, draw, ticks
from reports.render.tables import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    brief,
    integer,
    percent,
    significant,
    size,
)

TASK = [*(f"recall@{k}" for k in (1, 5, 10)), "ndcg@10"]
UNQUANTISED = "unquantised_recall@10"
QUALITY = [*TASK, "engine_recall@10", UNQUANTISED, "bytes_per_image"]
BUILD = ["build_seconds", "resident_bytes"]
LATENCIES = {f"p{share}": f"latency_p{share}_us" for share in (50, 95, 99)}
LOADED = "loaded machine"
LOOKS = {"lexicon": {"colour": COLOURS[0], "marker": "o"}, "dense": {"colour": COLOURS[1], "marker": "s"}}
# Statistics of the lexicon vectors, which decide the cost of an index as much as the engine does.
VECTORS = {
    "vectors_dimension": "{:,.0f} lexicons in the vocabulary",
    "vectors_lexicons_used": "{:,.0f} of them used",
    "vectors_zipf_exponent": "Zipf exponent {:.2f}",
    "vectors_active_mean": "{:.1f} active per image before pruning",
    "vectors_query_active_mean": "{:.1f} per query",
}


def section(evidence: Evidence) -> Section | None:
    found, tables, figures = [], [], []
    for sweep in sweeps(evidence):
        by_size = [engine_table(sweep, images) for images in reversed(sweep.sizes)]
        ends = [end_to_end(sweep)] if sweep.encoding else []
        drawn = [figure(sweep)] if sweep.has_task and sweep.calls(sweep.largest) else []
        tables += by_size + ends
        figures += drawn
        names = {"largest": by_size[0].name, "others": [table.name for table in by_size[1:]]}
        names |= {"end_to_end": [table.name for table in ends], "figures": [one.name for one in drawn]}
        found.append({"sweep": sweep} | names)
    title, data = "At scale: every engine", {"sweeps": found}
    return Section("scale_engines", title, tables, figures, data, "scale") if found else None


def vector_notes(sweep: Sweep, images: int | None = None) -> list[str]:
    """Statistics of the lexicon vectors of a gallery, one line for each model."""
    found = []
    for (variant, size_), measured in sorted(sweep.statistics.items()):
        if size_ == (images or sweep.largest):
            known = {name: measured.cell(name).value for name in VECTORS}
            parts = [text.format(known[name]) for name, text in VECTORS.items() if known[name] is not None]
            found.append(f"Lexicon vectors{f' of {variant}' if variant else ''}: {', '.join(parts)}.")
    return found


def engine_table(sweep: Sweep, images: int) -> Table:
    """One row for each search of a gallery, and last the ceiling of the harness.

    An engine that never ended well has one row for all its settings.
    """
    calls, searches = sweep.calls(images), sweep.at(images)
    limited = [call for call in calls if any(not search.timed(call, "limit_qps").missing for search in searches)]
    several = len({search.variant for search in searches}) > len({search.kind for search in searches})
    columns = [Column("search", "Engine and settings"), Column("kind", "Vectors")]
    columns += [Column("variant", "Variant")] if several else []
    columns += [Column(f"recall@{k}", f"R@{k}", percent, "Task, %") for k in (1, 5, 10)]
    if graded := any(not search.cell("ndcg@10").missing for search in searches):
        columns.append(Column("ndcg@10", "nDCG@10", percent, "Task, %"))
    columns.append(Column("engine_recall@10", "recall@10", percent, "Engine, %"))
    floats = any(not search.cell(UNQUANTISED).missing for search in searches)
    columns += [Column(UNQUANTISED, "of float weights", percent, "Engine, %")] if floats else []
    columns.append(Column("bytes_per_image", "Per image", size))
    columns += [Column(f"{call.key} qps", call.short, integer, "QPS (mode, threads)") for call in calls]
    for call in (call for call in calls if call.mode == "single"):
        heading = f"Latency, µs ({call.short})"
        columns += [Column(f"{call.key} {name}", name, integer, heading) for name in LATENCIES]
    for call in limited:
        heading = f"Bandwidth limit ({call.short})"
        columns.append(Column(f"{call.key} limit", "QPS", integer, heading))
        columns.append(Column(f"{call.key} share", "reached, %", percent, heading))
    columns += [Column("build_seconds", "Build, s", significant), Column("resident_bytes", "In memory", size)]
    columns.append(Column("note", "Note"))
    ceilings = [search for search in sweep.searches if search.images == images and search.engine == CEILING]
    rows = [_row(search, count, calls) for search, count in _collapsed(searches)]
    rows += [_row(search, 1, calls) for search in ceilings]
    notes = ["R@K: of the task. Engine recall@10: share of the exact top 10. In memory: growth by loading and search."]
    if graded:
        notes.append("R@K is Success@K: at least one relevant item in the top K. nDCG@10 weighs the grades of all.")
    if floats:
        notes.append("Of float weights: share of the exact top 10 before quantising.")
    if limited:
        notes.append("Limit: measured memory bandwidth over the bytes that exhaustive scoring must read.")
    if ceilings:
        notes.append(f"{CEILING}: answers at once with nothing; the highest rate that the harness can measure.")
    if images == sweep.largest:
        notes += vector_notes(sweep, images)
    caption = f"Engines over {integer(images)} images: {sweep.corpus}, {sweep.machine}"
    return Table(sweep.named(f"scale_engines_{images}"), caption, tuple(columns), rows, tuple(notes))


def _collapsed(searches: list[Search]) -> list[tuple[Search, int]]:
    """Searches, each with the number of settings it represents: more than one if all settings ended alike."""
    found: dict[tuple, tuple[Search, int]] = {}
    for search in searches:
        measured = any(not point.problem for point in search.measurements)
        key = (search,) if measured else (search.kind, search.variant, search.engine, search.problem)
        first, count = found.get(key, (search, 0))
        found[key] = first, count + 1
    return list(found.values())


def _row(search: Search, count: int, calls: list[Call]) -> dict[str, Cell]:
    label = search.label if count == 1 else f"{search.engine}, {count} settings"
    cells = {"search": Cell(label), "kind": Cell(search.kind), "variant": Cell(search.variant)}
    cells |= {metric: brief(search.cell(metric)) for metric in (*QUALITY, *BUILD)}
    if search.engine == CEILING:
        cells |= {"search": Cell(CEILING)} | dict.fromkeys((*QUALITY, *BUILD), Cell(NOT_APPLICABLE))
    elif search.recall is None and not search.problem:
        cells |= dict.fromkeys(TASK, Cell(NOT_APPLICABLE))
    if search.bits is None and search.engine != CEILING and not search.problem:
        cells[UNQUANTISED] = Cell(NOT_APPLICABLE)
    for call in calls:
        cells[f"{call.key} qps"] = brief(search.timed(call))
        cells |= {f"{call.key} {name}": brief(search.timed(call, metric)) for name, metric in LATENCIES.items()}
        limit, rate = search.timed(call, "limit_qps"), search.rate(call)
        if rate and not limit.missing and limit.value > 0:
            share = Cell(rate / limit.value, n=limit.n, points=limit.points)
        else:
            limit = share = Cell(NOT_APPLICABLE)
        cells |= {f"{call.key} limit": limit, f"{call.key} share": share}
    return cells | {"note": Cell(_note(search))}


def _note(search: Search) -> str:
    """How it ended, a false claim of exactness, and timings under load."""
    notes = [search.problem, search.accuracy.note if search.accuracy and not search.accuracy.problem else ""]
    if any(LOADED in measured.note for measured in search.calls.values() if not measured.problem):
        notes.append("timed on a loaded machine")
    return "; ".join(dict.fromkeys(note for note in notes if note))


# --- quality against speed


def figure(sweep: Sweep) -> Figure:
    """R@1 against QPS at the largest size, one panel for each call, with the Pareto front of each kind of vectors."""
    panels, alt = [], []
    for call in sweep.main_calls:
        series = []
        for kind in KINDS:
            mine = [s for s in sweep.at(sweep.largest, kind) if s.recall is not None and s.rate(call)]
            front = pareto([(search.rate(call), search.recall) for search in mine])
            best = [mine[i] for i in front]
            rest = [search for i, search in enumerate(mine) if i not in front]
            if best:
                front = _series(f"{kind}, Pareto front", best, call, line=True, labels=_labels(best), **LOOKS[kind])
                series.append(front)
                words = (f"{s.label} {percent(s.recall)} %, {integer(s.rate(call))} queries/s" for s in best)
                alt.append(f"{call.label}, {kind}: {'; '.join(words)}")
            if rest:
                series.append(_series(kind, rest, call, line=False, filled=False, strong=False, **LOOKS[kind]))
        axes = ("queries per second (log scale)", "R@1, text to image, %")
        panels.append(Panel(call.label.capitalize(), *axes, series, log_x=True, ticks=ticks(series)))
    caption = (
        f"R@1 against speed over {integer(sweep.largest)} images ({sweep.corpus}, {sweep.machine}). Lines: Pareto "
        "front of each kind of vectors. Labels: top-k of impact at 8 bits."
    )
    alt = f"Pareto fronts of R@1 against queries per second. {'. '.join(alt)}."
    return draw(sweep.named("scale_efficacy"), caption, alt, panels)


def _labels(front: list[Search]) -> list[str]:
    """Top-k of `impact`, where nothing else differs; labels of dense engines would overlap."""
    return [str(s.top_k or "all") if s.engine == "impact" and s.bits == 8 and not s.query_top_k else "" for s in front]


def _series(name: str, searches: list[Search], call: Call, **look) -> Series:
    return Series(name, [s.rate(call) for s in searches], [100 * s.recall for s in searches], **look)


# --- end to end


def end_to_end(sweep: Sweep) -> Table:
    """Median latency from text to vector, from vector to results, and their sum; one setting of each engine."""
    single, rows = sweep.call("single"), []
    for search in chosen(sweep) if single else ():
        if search.images != sweep.largest:
            continue
        encoded = sweep.encoding.get((search.variant, single.threads))
        encode = brief(encoded.cell("encode_text_latency_p50_us")) if encoded else Cell(missing=NOT_MEASURED)
        found = brief(search.timed(single, "latency_p50_us"))
        whole = share = Cell(missing=NOT_MEASURED)
        if not encode.missing and not found.missing:
            behind = encode.points + found.points
            whole = Cell(encode.value + found.value, points=behind)
            share = Cell(encode.value / whole.value if whole.value else 0.0, points=behind)
        cells = {"search": Cell(search.label), "kind": Cell(search.kind), "variant": Cell(search.variant)}
        rows.append(cells | {"encode": encode, "found": found, "whole": whole, "share": share})
    columns = (
        Column("search", "Engine and settings"),
        Column("kind", "Vectors"),
        Column("variant", "Encoder"),
        Column("encode", "text to vector", integer, "Median latency, µs"),
        Column("found", "search", integer, "Median latency, µs"),
        Column("whole", "sum", integer, "Median latency, µs"),
        Column("share", "Encoding, % of the sum", percent),
    )
    call = f", {single.label}" if single else ""
    notes = ("One setting of each engine: measured at most sizes, then of the highest R@1.",)
    return Table(sweep.named("scale_end_to_end"), f"From text to results{call}: {sweep.title}", columns, rows, notes)
