"""Growth of time, bytes and quality with the gallery, and statistics of the vectors."""

from reports.findings.growth import LEAST_SIZES, fit
from reports.pages import Section
from reports.pages.scale import vectors
from reports.pages.scale.engines import UNQUANTISED, vector_notes
from reports.records.evidence import Evidence
from reports.records.search import Search
from reports.records.sweep import Sweep, sweeps
from reports.render.figures import MUTED, Figure, Panel, Series, draw, palette
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, signed, significant, size

LATENCIES = {"latency_p50_us": "p50", "latency_p95_us": "p95"}
OF_INDEX = {"bytes": "index_bytes", "build": "build_seconds", "recall@1": "recall@1"}
FOUND = "engine_recall@10"
SATISFYING = ("satisfying_mean", "satisfying_median", "satisfied_share")
IMAGES = "images in the gallery (log scale)"


def section(evidence: Evidence) -> Section | None:
    found, tables, figures = [], [], []
    for sweep in sweeps(evidence):
        several = len(sweep.sizes) > 1
        distractors = [made for made in [distractor_table(sweep)] if made.rows] if sweep.has_task else []
        shown = {
            "figures": [growth_figure(sweep)] if several else [],
            "growth": [growth_table(sweep)] if several else [],
            "distractor_figures": [distractor_figure(sweep)] if distractors and several else [],
            "distractors": distractors,
            "generated": [vectors.control_table(sweep, evidence)] if sweep.fitted_to else [],
            "vectors": [vectors.statistics_table(sweep)] if sweep.statistics else [],
        }
        for key, made in shown.items():
            (figures if "figures" in key else tables).extend(made)
        names = {key: [one.name for one in made] for key, made in shown.items()}
        found.append({"sweep": sweep, "vector_notes": vector_notes(sweep)} | names)
    title, data = "At scale: growth with the gallery", {"sweeps": found}
    return Section("scale_growth", title, tables, figures, data, "scale") if found else None


# --- time and bytes


def growth_table(sweep: Sweep) -> Table:
    """Exponents of one setting of each engine, and its recall in the smallest and the largest gallery."""
    single, calls, rows = sweep.call("single"), sweep.main_calls, []
    for searches in sweep.by_setting():
        fits = {call.key: fit(searches, lambda s, call=call: s.timed(call)) for call in calls}
        for key in LATENCIES if single else ():
            fits[key] = fit(searches, lambda s, key=key: s.timed(single, key))
        for key, metric in OF_INDEX.items():
            fits[key] = fit(searches, lambda s, metric=metric: s.cell(metric))
        problem = next((s.problem for s in searches if s.problem), "").partition(":")[0]
        cells = {"search": Cell(searches[-1].label), "kind": Cell(searches[-1].kind)}
        for metric in (FOUND, UNQUANTISED):
            cells |= {f"{metric} least": searches[0].cell(metric), f"{metric} most": searches[-1].cell(metric)}
        for key, found in fits.items():
            cells[key] = Cell(missing=problem or f"fewer than {LEAST_SIZES} sizes")
            if found:
                sizes = ", ".join(integer(images) for images in found.sizes)
                cells[key] = Cell(found.exponent, n=f"over {sizes} images", points=found.points)
        used = max((found.sizes for found in fits.values() if found), key=len, default=())
        cells["sizes"] = Cell(missing=f"fewer than {LEAST_SIZES}")
        if used:
            cells["sizes"] = Cell(f"{integer(used[0])} to {integer(used[-1])} ({len(used)} sizes)")
        rows.append(cells)
    columns = [Column("search", "Engine and settings"), Column("kind", "Vectors")]
    columns += [Column(call.key, call.short, signed, "QPS (mode, threads)") for call in calls]
    for key, label in LATENCIES.items() if single else ():
        columns.append(Column(key, label, signed, f"Latency ({single.short})"))
    columns += [
        Column("bytes", "bytes", signed, "Index"),
        Column("build", "build time", signed, "Index"),
        Column("recall@1", "R@1", signed, "Task"),
    ]
    groups = {FOUND: "Exact top 10 found, %"}
    if any(not row[f"{UNQUANTISED} {end}"].missing for row in rows for end in ("least", "most")):
        groups[UNQUANTISED] = "Exact top 10 of float weights found, %"
    for metric, group in groups.items():
        columns.append(Column(f"{metric} least", "smallest gallery", percent, group))
        columns.append(Column(f"{metric} most", "largest gallery", percent, group))
    columns.append(Column("sizes", "Fitted over, images"))
    notes = (
        "Exponents a of value ~ images^a, by least squares of the logarithms, but for the share of the exact top 10. "
        "One setting of each engine: measured at most sizes, then of the highest R@1. An engine that finds less in a "
        "larger gallery does not stay fast at equal quality.",
    )
    caption = f"Growth with the gallery: {sweep.title}"
    return Table(sweep.named("scale_growth"), caption, tuple(columns), rows, notes)


def growth_figure(sweep: Sweep) -> Figure:
    """Rates, latency, index bytes, build time and R@1 of one setting of each engine against the gallery size."""
    settings, single = sweep.by_setting(), sweep.call("single")
    several = len({searches[-1].engine for searches in settings}) < len(settings)
    names = [f"{one[-1].engine} ({one[-1].variant})" if several else one[-1].engine for one in settings]
    shown = [(f"Speed, {call.label}", "queries per second", lambda s, call=call: s.timed(call), None)
             for call in sweep.main_calls]  # fmt: skip
    if single:
        shown.append((f"Latency, {single.label}", "p95, µs", lambda s: s.timed(single, "latency_p95_us"), None))
    shown += [
        ("Index on disk", "bytes", lambda s: s.cell("index_bytes"), size),
        ("Build time", "seconds", lambda s: s.cell("build_seconds"), None),
        ("Quality", "R@1, text to image", lambda s: s.cell("recall@1"), None),
    ]
    panels, alt, looks = [], [], palette(names)
    for title, label, cell, y_format in shown:
        series = []
        for name, searches in zip(names, settings, strict=True):
            found = [(s, at) for s in searches if (at := cell(s)).value and at.value > 0]
            if not found:
                continue
            details = [f"{s.label}\nrecords: {', '.join(at.points)}" for s, at in found]
            x, y = [s.images for s, _ in found], [at.value for _, at in found]
            series.append(Series(name, x, y, details=details, **looks[name]))
            words = (f"{value:,.4g} with {images:,} images" for images, value in zip(x, y, strict=True))
            alt.append(f"{title}, {name}: {', '.join(words)}")
        logs = {"log_x": True, "log_y": True, "y_format": y_format, "ticks": tuple(sweep.sizes)}
        panels.append(Panel(title, IMAGES, f"{label} (log scale)", series, **logs))
    caption = f"One setting of each engine against the gallery size, log scales: {sweep.title}. A line is a power law."
    panels = [panel for panel in panels if panel.series] or panels[:1]
    return draw(sweep.named("scale_growth"), caption, f"{'; '.join(alt)}.", panels, columns=2)


# --- distractors


def exact_sides(sweep: Sweep) -> dict[str, list[Search]]:
    """Name -> searches by size of one exact engine for each model: the loss of the vectors, not of the engine."""
    found: dict[tuple, list[Search]] = {}
    for searches in sweep.by_setting():
        if searches[-1].exact and any(search.recall is not None for search in searches):
            found.setdefault((searches[-1].kind, searches[-1].variant), searches)
    return {f"{kind} ({variant}, {searches[-1].label})": searches for (kind, variant), searches in found.items()}


def distractor_table(sweep: Sweep) -> Table:
    """R@1 of exact search at each gallery size, and the false negatives among the distractors."""
    sides, rows = exact_sides(sweep), []
    for images in sweep.sizes if sides else ():
        cells = {"images": Cell(images)}
        for name, searches in sides.items():
            found = (search.cell("recall@1") for search in searches if search.images == images)
            cells[name] = next(found, Cell(missing=NOT_MEASURED))
        if images in sweep.satisfying:
            cells |= {metric: sweep.satisfying[images].cell(metric) for metric in SATISFYING}
        rows.append(cells)
    columns = [Column("images", "Images", integer), *(Column(name, name, percent, "R@1, %") for name in sides)]
    if sweep.satisfying:
        group = "Other images that satisfy a caption"
        columns.append(Column("satisfying_mean", "mean", significant, group))
        columns.append(Column("satisfying_median", "median", significant, group))
        columns.append(Column("satisfied_share", "captions with any, %", percent, group))
    notes = (
        "Exact search, the same queries at every size. Other images that satisfy a caption count as wrong on both "
        "sides, so part of the loss is due to the protocol.",
    )
    caption = f"R@1 against the gallery size: {sweep.title}"
    return Table(sweep.named("scale_distractors"), caption, tuple(columns), rows, notes)


def distractor_figure(sweep: Sweep) -> Figure:
    """R@1 of exact search, and the mean number of false negatives, against the gallery size."""
    sides, recalls, at = exact_sides(sweep), [], {"log_x": True, "ticks": tuple(sweep.sizes)}
    looks = palette(sides)
    for name, searches in sides.items():
        found = [(search.images, 100 * search.recall) for search in searches if search.recall is not None]
        recalls.append(Series(name, [x for x, _ in found], [y for _, y in found], **looks[name]))
    panels = [Panel("R@1, exact search", IMAGES, "R@1, text to image, %", recalls, **at)]
    alt = [f"{s.name}: " + ", ".join(f"{y:.1f} % of {x:,}" for x, y in zip(s.x, s.y, strict=True)) for s in recalls]
    means = {images: point.cell("satisfying_mean").value for images, point in sorted(sweep.satisfying.items())}
    means = {images: mean for images, mean in means.items() if mean is not None}
    if means:
        name = "other images that satisfy a caption, mean"
        series = Series(name, list(means), list(means.values()), colour=MUTED, marker="D")
        panels.append(Panel("False negatives", IMAGES, "images per caption", [series], **at))
        alt.append(f"{name}: " + ", ".join(f"{y:.3g} of {x:,}" for x, y in means.items()))
    caption = "Left: R@1 with more distractors, same queries. Right: distractors that satisfy a caption."
    return draw(sweep.named("scale_distractors"), caption, f"{'. '.join(alt)}.", panels)
