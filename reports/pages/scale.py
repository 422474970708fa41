"""Growth with the gallery: exponents, end-to-end latency, generated against encoded vectors."""

from bench.store.metrics import METRICS
from reports.findings.answer import LEVELS, engine_recall
from reports.findings.growth import LEAST_SIZES, fit
from reports.pages import Section, latency
from reports.pages.answer import names_of
from reports.records.evidence import Evidence
from reports.records.search import KINDS, Call, Search
from reports.records.sweep import Sweep, chosen, encoded_controls, sweeps
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import (
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    brief,
    integer,
    percent,
    signed,
    significant,
    size,
    times,
)

IMAGES = "images in the gallery"
FAST = LEVELS[0]  # engine recall of what the chart of growth makes bold
SATISFYING = {"satisfying_mean": "mean", "satisfied_share": "captions with any, %"}
STATISTICS = (
    "vectors_dimension", "vectors_lexicons_used", "vectors_active_mean", "vectors_query_active_mean",
    "vectors_zipf_exponent", "vectors_pair_shared_lexicons", "vectors_flops_per_pair",
)  # fmt: skip


def sections(evidence: Evidence) -> list[Section]:
    return [one for place, sweep in enumerate(sweeps(evidence), 1) for one in _of(sweep, f"sweep{place}")]


def _of(sweep: Sweep, name: str) -> list[Section]:
    several = len(sweep.sizes) > 1
    charts = [growth_chart(sweep)] if several else []
    charts += [drawn] if (drawn := latency.chart(sweep, _colours(sweep))) else []
    tables = [growth_table(sweep)] if several else []
    tables += [table for table in (distractor_table(sweep), generated_table(sweep)) if table and table.rows]
    folded = [end_to_end(sweep)] if sweep.encoding and sweep.call("single") else []
    folded += [cold] if (cold := latency.table(sweep)) else []
    folded += [statistics_table(sweep)] if sweep.statistics else []
    return [Section(name, sweep.title, (), charts, tables, folded, {"commands": sweep.commands})]


def growth_chart(sweep: Sweep) -> Chart:
    """Rates, bytes, the exact top 10 found and R@1 of one setting of each engine, against the gallery size.

    Of each model, the fastest search and the fastest exact one are bold and have a label.
    """
    settings, single = sweep.by_setting(), sweep.call("single")
    colours, bold = _colours(sweep), _outstanding(settings, single)
    shown = [("Queries per second", lambda s: s.timed(single), {"log": True}, 1)] if single else []
    shown += [
        ("Index on disk", lambda s: s.cell("index_bytes"), {"log": True, "format": size}, 1),
        ("Exact top 10 found, %", lambda s: s.cell("engine_recall@10"), {}, 100),
        ("R@1 of the task, %", lambda s: s.cell("recall@1"), {}, 100),
    ]
    panels, alt = [], []
    for title, cell, axis, factor in shown:
        series = []
        for searches in settings:
            last = searches[-1]
            found = [(s, at) for s in searches if (at := cell(s)).value and at.value > 0]
            if found:
                name = f"{last.engine}, {_model(last)}"
                quiet = bold and last.setting not in bold
                ends = [last.engine if s is found[-1][0] and not quiet else "" for s, _ in found]
                points = tuple(_growth_mark(name, s, at, factor, end) for (s, at), end in zip(found, ends, strict=True))
                series.append(Series(_model(last), points, colours[_model(last)], "all", quiet=quiet))
                alt.append(f"{title}, {name}: {significant(points[0].y)} to {significant(points[-1].y)}")
        if series:
            series.sort(key=lambda one: not one.quiet)
            panels.append(Panel(title, Axis(IMAGES, log=True), Axis(title, **axis), tuple(series)))
    title = f"From {integer(sweep.sizes[0])} to {integer(sweep.largest)} images"
    subtitle = "One setting of each engine and model: measured at most sizes, then of the highest R@1. "
    if bold:
        subtitle += f"Bold: of each model, the fastest at {FAST:.0%} engine recall and the fastest exact engine. "
    subtitle += "A straight line is a power law."
    return Chart(sweep.named("growth"), title, subtitle, sweep.title, "; ".join(alt), tuple(panels), 2, height=290)


def _model(search: Search) -> str:
    """The model of a search, for a legend."""
    return names_of([search], search.kind)


def _colours(sweep: Sweep) -> dict[str, int]:
    """Model -> colour: the first of each kind has that of its kind, as in the other charts."""
    r, models = sweep.evidence.reading, {_model(search): search for search in sweep.searches}
    first = {r.reference: 0, r.baseline: 1, r.words: 2}
    order = sorted(models, key=lambda name: (first.get(models[name].variant, 3), name))
    firsts = {kind: next((name for name in order if models[name].kind == kind), None) for kind in KINDS}
    others = [name for name in order if name not in firsts.values()]
    return {name: place for place, name in enumerate([*firsts.values(), *others])}


def _outstanding(settings: list[list[Search]], call: Call | None) -> set[tuple]:
    """Settings that are the fastest of their model in the largest gallery: at `FAST` engine recall, and exact."""
    last = [searches[-1] for searches in settings if call and searches[-1].rate(call)]
    best: dict[tuple, Search] = {}
    for search in sorted(last, key=lambda search: search.rate(call)):
        if (engine_recall(search) or 0) >= FAST:
            best[_model(search), "fast"] = search
        if search.exact:
            best[_model(search), "exact"] = search
    return {search.setting for search in best.values()}


def _growth_mark(name: str, search: Search, cell: Cell, factor: float, label: str) -> Mark:
    tip = f"{name}: {search.label}\n{integer(search.images)} images: {significant(factor * cell.value)}"
    return Mark(search.images, factor * cell.value, f"{tip}\nrecords: {', '.join(cell.points)}", label=label)


def growth_table(sweep: Sweep) -> Table:
    """Exponents of one setting of each engine, and its recall in the smallest and the largest gallery."""
    single, rows = sweep.call("single"), []
    fitted = {"qps": lambda s: s.timed(single), "p95": lambda s: s.timed(single, "latency_p95_us")} if single else {}
    fitted |= {"bytes": lambda s: s.cell("index_bytes"), "build": lambda s: s.cell("build_seconds")}
    for searches in sweep.by_setting():
        last = searches[-1]
        cells = {"search": Cell(last.label), "model": Cell(last.variant or last.kind), "kind": Cell(last.kind)}
        for key, cell in fitted.items():
            found = fit(searches, cell)
            cells[key] = Cell(missing=f"fewer than {LEAST_SIZES} sizes")
            if found:
                over = f"over {', '.join(integer(images) for images in found.sizes)} images"
                cells[key] = Cell(found.exponent, n=over, points=found.points)
        ends = {"least": searches[0], "most": searches[-1]}
        rows.append(cells | {end: brief(search.cell("engine_recall@10")) for end, search in ends.items()})
    labels = {"qps": "queries/s", "p95": "p95 latency", "bytes": "index bytes", "build": "build time"}
    columns = [Column("search", "Engine and settings"), Column("model", "Model"), Column("kind", "Vectors")]
    columns += [Column(key, labels[key], signed, "Exponent of growth") for key in fitted]
    columns += [Column(end, f"{word} gallery", percent, "Exact top 10 found, %") for end, word in
                (("least", "smallest"), ("most", "largest"))]  # fmt: skip
    notes = ("Exponent a of value ~ images^a: 1 grows with the gallery, 0 stays. By least squares of the logarithms.",)
    return Table(sweep.named("scale_growth"), f"Growth: {sweep.title}", tuple(columns), rows, notes)


def distractor_table(sweep: Sweep) -> Table | None:
    """R@1 of exact search at each gallery size, and the false negatives among the distractors."""
    sides: dict[str, list[Search]] = {}  # one exact engine of each model
    for searches in sweep.by_setting():
        last = searches[-1]
        if last.exact and any(search.recall is not None for search in searches):
            sides.setdefault(last.variant or last.kind, searches)
    if not sides:
        return None
    rows = []
    for images in sweep.sizes:
        cells = {"images": Cell(images)}
        for name, searches in sides.items():
            found = (sweep.recall_cell(search) for search in searches if search.images == images)
            cells[name] = next(found, Cell(missing=NOT_MEASURED))
        if images in sweep.satisfying:
            cells |= {metric: sweep.satisfying[images].cell(metric) for metric in SATISFYING}
        rows.append(cells)
    columns = [Column("images", "Images", integer)]
    columns += [
        Column(name, f"{name}, {searches[-1].label}", percent, "R@1 of exact search, %")
        for name, searches in sides.items()
    ]
    if sweep.satisfying:
        columns += [Column("satisfying_mean", "mean", significant, "Other images that satisfy a caption")]
        columns += [
            Column("satisfied_share", SATISFYING["satisfied_share"], percent, "Other images that satisfy a caption")
        ]
    notes = ("Same queries at every size. Other images that satisfy a caption count as wrong on both sides.",)
    return Table(
        sweep.named("scale_distractors"), f"Quality with more distractors: {sweep.title}", tuple(columns), rows, notes
    )


def encoded_control(sweep: Sweep) -> Sweep | None:
    """The sweep over the encoded vectors that generated ones were fitted to, on the same machine; same rounds first."""
    found = [one for one in encoded_controls(sweep.evidence) + sweeps(sweep.evidence)
             if (one.corpus, one.machine_id) == (sweep.fitted_to, sweep.machine_id)]  # fmt: skip
    return next((one for one in found if sweep.checkpoints <= one.checkpoints), None)


def generated_table(sweep: Sweep) -> Table | None:
    """QPS over generated and over encoded vectors: same machine, size, setting and call."""
    control = encoded_control(sweep) if sweep.fitted_to else None
    if not control:
        return None
    known = {(search.images, search.setting): search for search in control.searches}
    rows = [
        _compared(search, known[search.images, search.setting], call)
        for search in sweep.searches
        if (search.images, search.setting) in known
        for call in sweep.calls(search.images)
    ]
    columns = (
        Column("search", "Engine and settings"),
        Column("images", "Images", integer),
        Column("called", "Call"),
        Column("encoded", "encoded", significant, "Queries/s over vectors that are"),
        Column("generated", "generated", significant, "Queries/s over vectors that are"),
        Column("factor", "Generated / encoded", times),
    )
    stretched = f"The vocabulary was stretched to {sweep.stretched_to} lexicons: the factor is its effect."
    notes = (stretched if sweep.stretched_to else "A factor near 1: generated vectors cost what encoded ones cost.",)
    return Table(
        sweep.named("scale_generated"), f"Generated against encoded vectors: {sweep.corpus}", columns, rows, notes
    )


def _compared(search: Search, other: Search, call: Call) -> dict[str, Cell]:
    ours, theirs = search.timed(call), other.timed(call)
    factor = Cell(missing=ours.missing or theirs.missing or NOT_MEASURED)
    if other.rate(call) and search.rate(call):
        factor = Cell(search.rate(call) / other.rate(call), points=ours.points + theirs.points)
    about = {"search": Cell(search.label), "images": Cell(search.images), "called": Cell(call.label)}
    return about | {"encoded": brief(theirs), "generated": brief(ours), "factor": brief(factor)}


def end_to_end(sweep: Sweep) -> Table:
    """Median latency from text to vector, from vector to results, and their sum; one setting of each engine."""
    single, rows = sweep.call("single"), []
    for search in (search for search in chosen(sweep) if search.images == sweep.largest):
        encode = brief(sweep.encoding_cell(search, single))
        found = brief(search.timed(single, "latency_p50_us"))
        whole = Cell(missing=NOT_MEASURED)
        if not encode.missing and not found.missing:
            whole = Cell(encode.value + found.value, points=encode.points + found.points)
        about = {"search": Cell(search.label), "variant": Cell(search.variant)}
        rows.append(about | {"encode": encode, "found": found, "whole": whole})
    group = "Median latency, µs"
    columns = (
        Column("search", "Engine and settings"),
        Column("variant", "Encoder"),
        Column("encode", "text to vector", significant, group),
        Column("found", "search", significant, group),
        Column("whole", "sum", significant, group),
    )
    return Table(sweep.named("scale_end_to_end"), f"From text to results, {single.label}: {sweep.title}", columns, rows)


def statistics_table(sweep: Sweep) -> Table:
    """Statistics of the lexicon vectors at the largest size; of generated ones beside the encoded ones."""
    sides = {}
    for found, what in ((sweep.fitted, "encoded"), (sweep.statistics, "generated" if sweep.fitted_to else "encoded")):
        for variant in sorted({variant for variant, _ in found}):
            images = max(images for one, images in found if one == variant)
            sides[f"{variant}, {what}, {integer(images)} images"] = found[variant, images]
    rows = [
        {"statistic": Cell(METRICS[name].label)} | {side: measured.cell(name) for side, measured in sides.items()}
        for name in STATISTICS
    ]
    columns = (Column("statistic", "Statistic"), *(Column(side, side, significant) for side in sides))
    return Table(sweep.named("scale_vectors"), f"Lexicon vectors: {sweep.title}", columns, rows)
