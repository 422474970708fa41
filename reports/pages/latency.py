"""Latency of single queries: the first after opening apart from warm ones, and each against the postings it touches."""

from reports.pages.answer import names_of
from reports.records.search import Search
from reports.records.sweep import Sweep
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import Cell, Column, Table, brief, integer, signed, significant

FEWEST = 10
"""Queries from which an engine has a panel."""
WARM = {f"latency_p{p}_us": f"p{p}" for p in (50, 95, 99)}


def chart(sweep: Sweep, colours: dict[str, int]) -> Chart | None:
    """Latency against postings touched, a point per query and a panel per lexicon engine, at the largest gallery.

    colours: model -> colour.
    """
    single, engines = sweep.call("single"), {}
    for search in sweep.at(sweep.largest, "lexicon") if single else []:
        queries = _queries(sweep, search)
        main = search.top_k == sweep.evidence.reading.top_k and search.bits == sweep.evidence.reading.bits
        if queries is not None and (main or search.bits is None):
            engines.setdefault(search.engine, {}).setdefault(names_of([search], "lexicon"), (search, queries))
    if not engines:
        return None
    panels, alt, follows = [], [], {}
    for engine, models in engines.items():
        series = []
        for name, (search, queries) in models.items():
            marks = tuple(Mark(x, y) for x, y in zip(queries.touched, queries.latency_us, strict=True))
            series.append(Series(name, marks, colours[name], quiet=True))
            together = queries.touched.rank().corr(queries.latency_us.rank())
            follows.setdefault(engine, []).append(together)
            ends = " to ".join(significant(end) for end in (queries.latency_us.min(), queries.latency_us.max()))
            alt.append(f"{search.label}, {name}: {ends} µs, rank correlation {signed(together)}")
        axes = Axis("postings touched", log=True), Axis("µs", log=True)
        panels.append(Panel(f"{engine}: latency, µs", *axes, tuple(series)))
    means = {engine: sum(found) / len(found) for engine, found in follows.items()}
    most, least = max(means, key=means.get), min(means, key=means.get)
    title = f"Latency depends most on postings in {most}"
    title += f", least in {least}" if least != most else ""
    note = f"Rank correlation: {', '.join(f'{engine} {signed(mean)}' for engine, mean in means.items())}."
    subtitle = (
        f"A point is a single query over {integer(sweep.largest)} images, at the first setting of the engine's knobs."
    )
    return Chart(
        sweep.named("latency"), title, subtitle, sweep.title, "; ".join(alt), tuple(panels), 3, note, height=200
    )


def _queries(sweep: Sweep, search: Search):
    """Columns latency_us and touched of the single queries that a record keeps; None for none."""
    point = search.calls[sweep.call("single")].point_id if sweep.call("single") in search.calls else ""
    queries = sweep.evidence.queries(point) if point else None
    if queries is None or "touched" not in queries or len(queries) < FEWEST:
        return None
    return queries[["latency_us", "touched"]].astype(float)


def table(sweep: Sweep) -> Table | None:
    """Opening an index in a new process, its first query, and warm queries; at the largest gallery."""
    single = sweep.call("single")
    searches = [search for search in sweep.at(sweep.largest) if single and search.timed(single, "first_query_us").value]
    if not searches:
        return None
    rows = [
        {"search": Cell(search.label), "model": Cell(names_of([search], search.kind))}
        | {name: brief(search.timed(single, name)) for name in ("open_seconds", "first_query_us", *WARM)}
        for search in searches
    ]
    columns = [Column("search", "Engine and settings"), Column("model", "Model")]
    columns += [Column("open_seconds", "open, s", significant, "New process")]
    columns += [Column("first_query_us", "first query, µs", significant, "New process")]
    columns += [Column(name, label, significant, "Warm queries, µs") for name, label in WARM.items()]
    notes = (
        "Opening includes the import of the engine's library, and the first query whatever it loads or compiles then. "
        "The index's files may already be in the system's memory.",
    )
    title = f"Cold and warm, {single.label}: {sweep.title}"
    return Table(sweep.named("scale_cold"), title, tuple(columns), rows, notes)
