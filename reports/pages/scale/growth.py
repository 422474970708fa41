"""What grows with the gallery: time, bytes and wrong answers; what the vectors are like; and how far generated vectors stand for encoded ones."""

from dataclasses import dataclass

import numpy as np

from bench.tasks.metrics import METRICS
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.scale import Search, Sweep, chosen, sweeps, twins
from reports.render.figures import Figure, Panel, Series, draw, palette
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, significant, size, times

LEAST_SIZES = 3  # of a fit
LATENCIES = {"latency_p50_us": "p50", "latency_p95_us": "p95"}
FOUND = "engine_recall@10"
OF_INDEX = {"bytes": "index_bytes", "build": "build_seconds", "recall@1": "recall@1"}


@dataclass(frozen=True)
class Fit:
    """value ~ images ^ exponent, by least squares of the logarithms over `sizes`."""

    exponent: float
    sizes: tuple[int, ...]
    points: tuple[str, ...]


def section(evidence: Evidence) -> Section | None:
    everything = sweeps(evidence)
    found, tables, figures = [], [], []
    for sweep in everything:
        names = {
            "sweep": sweep,
            "said": in_words(sweep),
            "growth": [],
            "distractors": [],
            "vectors": [],
            "generated": [],
            "figures": [],
            "distractor_figures": [],
        }
        if len(sweep.sizes) > 1:
            made, drawn = growth_table(sweep), growth_figure(sweep)
            tables.append(made)
            figures.append(drawn)
            names |= {"growth": [made.name], "figures": [drawn.name]}
        if sweep.judged and (made := distractor_table(sweep)).rows:
            tables.append(made)
            names["distractors"] = [made.name]
            if len(sweep.sizes) > 1:
                figures.append(distractor_figure(sweep))
                names["distractor_figures"] = [figures[-1].name]
        if sweep.statistics:
            tables.append(vector_table(sweep))
            names["vectors"] = [tables[-1].name]
        if sweep.fitted_to:
            tables.append(twin_table(sweep, encoded_twin(sweep, evidence)))
            names["generated"] = [tables[-1].name]
        found.append(names)
    return (
        Section("scale_growth", "At scale: what grows with the gallery", tables, figures, {"sweeps": found})
        if found
        else None
    )


def in_words(sweep: Sweep) -> list[str]:
    """What growth does to speed, and to quality, from the smallest gallery to the largest."""
    if len(sweep.sizes) < 2:
        return []
    low, high = sweep.sizes[0], sweep.sizes[-1]
    said, call = [], sweep.call("single")
    ends = {}
    for searches in by_setting(sweep):
        rates = {search.images: search.rate(call) for search in searches} if call else {}
        if rates.get(low) and rates.get(high):
            found = _found_in_words(searches[0], searches[-1])
            ends.setdefault(searches[-1].kind, []).append(
                (rates[low] / rates[high], searches[-1].engine, rates[low], rates[high], found)
            )
    for kind, found in ends.items():
        told = [f"{name} {least} ({times(lost)} fewer: {integer(rate)} to {integer(at)}{quality})" for least, (lost, name, rate, at, quality) in
                zip(("least", "most"), dict.fromkeys((min(found), max(found))), strict=False)]  # fmt: skip
        said.append(f"Of {kind} engines, queries per second fall with {' and '.join(told)}, {call.label}.")
    levels = []
    for name, searches in exact_sides(sweep).items():
        recalls = {search.images: search.recall for search in searches}
        if recalls.get(low) is not None and recalls.get(high) is not None:
            levels.append(f"from {percent(recalls[low])} to {percent(recalls[high])} % with {name}")
    if levels:
        said.append(f"R@1 of exact search falls {' and '.join(levels)}.")
    true = sweep.satisfying.get(high)
    if true and true.values.get("satisfying_mean") is not None:
        said.append(
            f"In the largest gallery {significant(true.values['satisfying_mean'])} other images make a caption true, on average."
        )
    return [f"From {integer(low)} to {integer(high)} images:", *said] if said else []


def _found_in_words(least: Search, most: Search) -> str:
    """The engine's own recall at both ends: an engine that finds less and less is not one that stays fast."""
    recalls = [search.cell(FOUND) for search in (least, most)]
    if any(cell.missing for cell in recalls):
        return ""
    low, high = (percent(cell.value) for cell in recalls)
    return f"; {low} % of the exact top 10 found" if low == high else f"; {low} to {high} % of the exact top 10 found"


# --- growth -----------------------------------------------------------------------------------------------------------------------


def by_setting(sweep: Sweep) -> list[list[Search]]:
    """One setting of each engine, as `chosen`: its searches, smallest gallery first."""
    found: dict[tuple, list[Search]] = {}
    for search in chosen(sweep):
        found.setdefault(search.setting, []).append(search)
    return list(found.values())


def fit(measured: list[tuple[int, float, tuple[str, ...]]]) -> Fit | None:
    """(images, value, points) of at least three sizes and positive values, else None."""
    measured = [one for one in measured if one[1] and one[1] > 0]
    if len({images for images, *_ in measured}) < LEAST_SIZES:
        return None
    exponent = np.polyfit(np.log([images for images, *_ in measured]), np.log([value for _, value, _ in measured]), 1)[
        0
    ]
    return Fit(
        float(exponent),
        tuple(images for images, *_ in measured),
        tuple(point for *_, behind in measured for point in behind),
    )


def growth_table(sweep: Sweep) -> Table:
    single = sweep.call("single")
    calls = [call for call in dict.fromkeys((single, sweep.call("batched"))) if call]
    rows = []
    for searches in by_setting(sweep):
        fits = {call.key: fit([(s.images, s.rate(call), s.timed(call).points) for s in searches]) for call in calls}
        if single:
            fits |= {
                key: fit([(s.images, s.timed(single, key).value, s.timed(single, key).points) for s in searches])
                for key in LATENCIES
            }
        for key, metric in OF_INDEX.items():
            fits[key] = fit([(s.images, s.cell(metric).value, s.cell(metric).points) for s in searches])
        problem = next((s.problem for s in searches if s.problem), "").partition(":")[0]
        cells = {"search": Cell(searches[-1].label), "kind": Cell(searches[-1].kind)}
        cells |= {"found_least": searches[0].cell(FOUND), "found_most": searches[-1].cell(FOUND)}
        for key, found in fits.items():
            if found:
                cells[key] = Cell(
                    found.exponent,
                    n=f"over {', '.join(integer(images) for images in found.sizes)} images",
                    points=found.points,
                )
            else:
                cells[key] = Cell(missing=problem or f"fewer than {LEAST_SIZES} sizes")
        used = max((found.sizes for found in fits.values() if found), key=len, default=())
        cells["sizes"] = (
            Cell(f"{integer(used[0])} to {integer(used[-1])} ({len(used)} sizes)")
            if used
            else Cell(missing=f"fewer than {LEAST_SIZES}")
        )
        rows.append(cells)
    columns = (
        Column("search", "Engine and knobs"), Column("kind", "Kind"), *(Column(call.key, call.short, _exponent, "QPS (mode, threads)") for call in calls),
        *(Column(key, label, _exponent, f"Latency ({single.short})") for key, label in (LATENCIES if single else {}).items()),
        Column("bytes", "bytes", _exponent, "Index"), Column("build", "build time", _exponent, "Index"), Column("recall@1", "R@1", _exponent, "Task"),
        Column("found_least", "fewest images", percent, "Exact top 10 found, %"), Column("found_most", "most images", percent, "Exact top 10 found, %"),
        Column("sizes", "Fitted over, images"),
    )  # fmt: skip
    notes = (
        "The exponent a of value ~ images^a, by least squares of the logarithms. QPS: −1 is time in proportion to the gallery, 0 is time that does not grow. "
        "Latency, bytes, build time: 1 is in proportion. R@1: how fast distractors take it away. A fit over few sizes says little beyond them.",
        "The last columns are no exponents: what each engine finds of the exact top 10 in the smallest and in the largest gallery. One that finds less and less "
        "is not one that stays fast.",
        "One setting of each engine: the one measured at most sizes, then of the highest R@1 at the largest.",
    )
    return Table(sweep.named("scale_growth"), f"Growth with the gallery: {sweep.title}", columns, rows, notes)


def _exponent(value: float) -> str:
    rounded = f"{value:+.2f}"
    return ("0.00" if float(rounded) == 0 else rounded).replace("-", "−")


def growth_figure(sweep: Sweep) -> Figure:
    """Rates, latency, index bytes, build time and R@1 of one setting of each engine against the size of the gallery."""
    settings = by_setting(sweep)
    several = len({searches[-1].engine for searches in settings}) < len(settings)
    names = [
        f"{searches[-1].engine} ({searches[-1].variant})" if several else searches[-1].engine for searches in settings
    ]
    looks = palette(names)
    single = sweep.call("single")
    shown = [
        (f"Speed, {call.label}", "queries per second", lambda s, call=call: s.timed(call), None)
        for call in dict.fromkeys(filter(None, (single, sweep.call("batched"))))
    ]
    if single:
        shown.append((f"Latency, {single.label}", "p95, µs", lambda s: s.timed(single, "latency_p95_us"), None))
    shown += [
        ("Index on disk", "bytes", lambda s: s.cell("index_bytes"), size),
        ("Build time", "seconds", lambda s: s.cell("build_seconds"), None),
        ("Quality", "R@1, text to image", lambda s: s.cell("recall@1"), None),
    ]
    panels, told = [], []
    for title, label, cell, y_format in shown:
        series = []
        for name, searches in zip(names, settings, strict=True):
            found = [(s, at) for s in searches if (at := cell(s)).value and at.value > 0]
            if not found:
                continue
            details = [f"{s.label}\nrecords: {', '.join(at.points)}" for s, at in found]
            series.append(
                Series(
                    name, [s.images for s, _ in found], [at.value for _, at in found], details=details, **looks[name]
                )
            )
            told.append(
                f"{title}, {name}: " + ", ".join(f"{at.value:,.4g} with {s.images:,} images" for s, at in found)
            )
        axis = "images in the gallery (log scale)"
        panels.append(
            Panel(
                title,
                axis,
                f"{label} (log scale)",
                series,
                log_x=True,
                log_y=True,
                y_format=y_format,
                ticks=tuple(sweep.sizes),
            )
        )
    caption = f"One setting of each engine against the gallery, all axes logarithmic: {sweep.title}. A straight line is a power law; the table below has its exponent, and the setting of each engine."
    return draw(
        sweep.named("scale_growth"),
        caption,
        "; ".join(told) + ".",
        [panel for panel in panels if panel.series] or panels[:1],
        columns=2,
    )


# --- distractors ------------------------------------------------------------------------------------------------------------------


def exact_sides(sweep: Sweep) -> dict[str, list[Search]]:
    """Name -> searches by size, of one exact engine for each model: what distractors cost the vectors, not the engine."""
    found: dict[tuple, list[Search]] = {}
    for searches in by_setting(sweep):
        if searches[-1].exact and any(search.recall is not None for search in searches):
            found.setdefault((searches[-1].kind, searches[-1].variant), searches)
    return {f"{kind} ({variant}, {searches[-1].label})": searches for (kind, variant), searches in found.items()}


def distractor_table(sweep: Sweep) -> Table:
    sides = exact_sides(sweep)
    rows = []
    for images in sweep.sizes if sides else ():
        cells = {"images": Cell(images)}
        for name, searches in sides.items():
            cells[name] = next(
                (search.cell("recall@1") for search in searches if search.images == images), Cell(missing=NOT_MEASURED)
            )
        for metric in ("satisfying_mean", "satisfying_median", "satisfied_share"):
            if images in sweep.satisfying:
                cells[metric] = sweep.satisfying[images].cell(metric)
        rows.append(cells)
    columns = [Column("images", "Images", integer), *(Column(name, name, percent, "R@1, %") for name in sides)]
    if sweep.satisfying:
        group = "Other images that make a caption true"
        columns += [Column("satisfying_mean", "mean", significant, group), Column("satisfying_median", "median", significant, group),
                    Column("satisfied_share", "captions with any, %", percent, group)]  # fmt: skip
    notes = (
        "The same queries at every size, exact search. An image that makes a caption true and is not its own counts as wrong all the same, on both sides: part of the loss is the protocol's.",
    )
    return Table(
        sweep.named("scale_distractors"),
        f"R@1 against the size of the gallery: {sweep.title}",
        tuple(columns),
        rows,
        notes,
    )


def distractor_figure(sweep: Sweep) -> Figure:
    sides = exact_sides(sweep)
    looks = palette(sides)
    recalls = []
    for name, searches in sides.items():
        found = [(search.images, 100 * search.recall) for search in searches if search.recall is not None]
        recalls.append(Series(name, [x for x, _ in found], [y for _, y in found], **looks[name]))
    axis, ticks = "images in the gallery (log scale)", tuple(sweep.sizes)
    panels = [Panel("R@1, exact search", axis, "R@1, text to image, %", recalls, log_x=True, ticks=ticks)]
    told = [f"{s.name}: " + ", ".join(f"{y:.1f} % of {x:,}" for x, y in zip(s.x, s.y, strict=True)) for s in recalls]
    counts = [
        (images, point.values["satisfying_mean"])
        for images, point in sorted(sweep.satisfying.items())
        if "satisfying_mean" in point.values
    ]
    if counts:
        name = "other images that make a caption true, mean"
        series = Series(name, [x for x, _ in counts], [y for _, y in counts], colour="#595959", marker="D")
        panels.append(Panel("False negatives", axis, "images per caption", [series], log_x=True, ticks=ticks))
        told.append(f"{name}: " + ", ".join(f"{y:.3g} of {x:,}" for x, y in counts))
    return draw(
        sweep.named("scale_distractors"),
        "Left: R@1 as distractors are added, for the same queries. Right: how many of the added images are right as well.",
        ". ".join(told) + ".",
        panels,
    )


# --- vectors ----------------------------------------------------------------------------------------------------------------------


def vector_table(sweep: Sweep) -> Table:
    """Statistics of the lexicon vectors at the largest size; of generated ones beside those that they were made after."""
    sides: dict[str, dict] = {}
    for variant in sorted({variant for variant, _ in sweep.statistics}):
        encoded = sorted(images for one, images in sweep.fitted if one == variant)
        if encoded:
            sides[f"{variant}, encoded, {integer(encoded[-1])} images"] = sweep.fitted[variant, encoded[-1]]
        images = max(images for one, images in sweep.statistics if one == variant)
        what = "generated, " if sweep.fitted_to else ""
        sides[f"{variant}, {what}{integer(images)} images"] = sweep.statistics[variant, images]
    names = [
        name
        for name in dict.fromkeys(name for measured in sides.values() for name in measured.values)
        if name.startswith("vectors_")
    ]
    rows = []
    for name in names:
        label = METRICS.get(name.removeprefix("vectors_"), METRICS[name]).label
        rows.append({"statistic": Cell(label), **{side: measured.cell(name) for side, measured in sides.items()}})
    if not names:
        rows = [
            {"statistic": Cell("all"), **{side: measured.cell("vectors_dimension") for side, measured in sides.items()}}
        ]
    columns = (Column("statistic", "Statistic"), *(Column(side, side, significant) for side in sides))
    return Table(sweep.named("scale_vectors"), f"What the lexicon vectors are like: {sweep.title}", columns, rows)


def encoded_twin(sweep: Sweep, evidence: Evidence) -> Sweep | None:
    """The sweep over the encoded vectors that generated ones were made after, on the same machine; first that in the same rounds."""
    same = [
        one
        for one in twins(evidence) + sweeps(evidence)
        if (one.corpus, one.machine_id) == (sweep.fitted_to, sweep.machine_id)
    ]
    return next((one for one in same if sweep.checkpoints <= one.checkpoints), None)


def twin_table(sweep: Sweep, twin: Sweep | None) -> Table:
    """QPS over generated vectors beside QPS over the encoded ones, same machine, size, setting and call."""
    known = {(search.images, search.setting): search for search in twin.searches} if twin else {}
    rows = []
    for search in sweep.searches:
        other = known.get((search.images, search.setting))
        for call in sweep.calls(search.images) if other else ():
            ours, theirs = search.timed(call), other.timed(call)
            cells = {
                "search": Cell(search.label),
                "images": Cell(search.images),
                "called": Cell(call.label),
                "encoded": theirs,
                "generated": ours,
            }
            if other.rate(call) and search.rate(call):
                cells["factor"] = Cell(search.rate(call) / other.rate(call), points=ours.points + theirs.points)
            else:
                cells["factor"] = Cell(missing=ours.missing or theirs.missing or NOT_MEASURED)
            rows.append(cells)
    columns = (
        Column("search", "Engine and knobs"), Column("images", "Images", integer), Column("called", "Called"), Column("encoded", "encoded", integer, "QPS over vectors that are"),
        Column("generated", "generated", integer, "QPS over vectors that are"), Column("factor", "generated / encoded", times),
    )  # fmt: skip
    factors = [row["factor"].value for row in rows if row["factor"].value]
    notes = ()
    if factors and not sweep.stretched_to:
        together = ", searched in the same rounds," if twin.beside else ""
        notes = (
            f"The QPS of an engine over generated vectors and over encoded ones{together} agree within a factor of {significant(max(max(factors), 1 / min(factors)))}: "
            f"from {times(min(factors))} to {times(max(factors))} over {len(factors)} rates.",
        )
    if not rows:
        notes = (
            f"No engine was measured on both {sweep.corpus} and the vectors of {sweep.fitted_to} that these were made after, at the same size and setting on this machine.",
        )
    elif sweep.stretched_to:
        notes = (
            f"The vocabulary of the generated vectors was stretched to {sweep.stretched_to} lexicons: the factor is what that changes, not how far generated vectors stand for encoded ones.",
        )
    return Table(
        sweep.named("scale_generated"),
        f"Generated vectors against encoded ones: {sweep.corpus}, {sweep.machine}",
        columns,
        rows,
        notes,
    )
