"""Interactive plot of quality against cost for every measured search, with the Pareto front of each kind of vectors."""

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import KINDS, MODES, Call, Search, pareto
from reports.records.variants import sources
from reports.render import plots
from reports.render.figures import COLOURS, Figure, Panel, Series, draw, ticks
from reports.render.tables import integer, percent, significant, size

COLOUR = dict(zip((*KINDS, "unknown"), COLOURS, strict=False))
MARKER = {"lexicon": "o", "dense": "s", "unknown": "D"}
QUALITIES = {"recall@1": "R@1, text to image, %", "recall@10": "R@10, text to image, %"}
# Cost -> (axis title, better, short title, format, unit in words)
COSTS = {
    "qps": ("queries per second", "more", "speed", significant, "queries/s"),
    "bytes_per_image": ("index bytes per image", "less", "size", size, "per image"),
    "build_seconds": ("build time, s", "less", "build time", significant, "s to build"),
}
AXES = (
    {"channel": "y", "label": "Quality", "options": [plots.axis(name, t, "more") for name, t in QUALITIES.items()]},
    {"channel": "x", "label": "Cost", "options": [plots.axis(n, t, b, log=True) for n, (t, b, *_) in COSTS.items()]},
)
PADDING = 1.5  # factor beyond the slowest and the fastest on a shared axis
Point = tuple[Search, Call | None]  # a search and the call it was timed in


def section(evidence: Evidence) -> Section:
    found = {title: points(searches) for title, searches in sources(evidence).items()}
    figures = [figure(found)] if found else []
    return Section("explorer", "Quality against speed, size and build time", figures=figures, folder="efficiency")


def points(searches: list[Search]) -> list[Point]:
    """Every search with every call it was timed in; with None if it was not timed."""
    return [(search, call) for search in searches for call in search.calls or [None]]


def figure(found: dict[str, list[Point]]) -> Figure:
    """Still: the first source, against speed at each gallery size, and against size and build time at the largest."""
    title, of_first = next(iter(found.items()))
    sizes = sorted({search.images for search, _ in of_first})
    timed = [(search, call) for search, call in of_first if call and search.rate(call)]
    single = [(search, call) for search, call in timed if call.mode == "single"] or timed
    call = min((call for _, call in single), key=lambda call: call.threads or 0, default=None)
    shown = [(search, one) for search, one in single if one == call]
    rates = [search.rate(one) for search, one in shown]
    panels, alt = [], []
    for images in sizes if shown else ():
        mine = [(search, one) for search, one in shown if search.images == images]
        same = (min(rates) / PADDING, max(rates) * PADDING)
        panels.append(_panel(f"{integer(images)} images", mine, "qps", alt, same))
    once = list({(s.label, s.variant): (s, c) for s, c in of_first if s.images == sizes[-1]}.values())
    panels += [_panel(f"{integer(sizes[-1])} images", once, cost, alt) for cost in ("bytes_per_image", "build_seconds")]
    panels = [panel for panel in panels if panel.series] or panels[:1]
    speed = f"; speed: {call.label}" if call else ""
    caption = (
        "Lines: Pareto front of each kind of vectors, the searches that no other of the same kind beats in both "
        f"quality and cost. Still picture: R@1 in {title}{speed}."
    )
    still = draw("explorer", caption, f"Pareto fronts of R@1 against cost. {'. '.join(alt) or 'None'}.", panels)
    return Figure(still.name, still.caption, still.alt, still.svg, still.png, plot=plot(found))


def value(point: Point, metric: str) -> float | None:
    """A metric of a search; a rate in its call."""
    search, call = point
    return (search.rate(call) if call else None) if metric == "qps" else search.cell(metric).value


def _panel(title: str, mine: list[Point], cost: str, alt: list[str], shown: tuple[float, float] | None = None) -> Panel:
    """R@1 against a cost, with the front of each kind, which is also appended to `alt`."""
    words, better, short, *_ = COSTS[cost]
    title, series = f"{title}: {short}", []
    for kind in dict.fromkeys(search.kind for search, _ in mine):
        of_kind = [point for point in mine if point[0].kind == kind and (value(point, cost) or 0) > 0]
        sign = 1 if better == "more" else -1
        best = [of_kind[i] for i in pareto([(sign * value(point, cost), point[0].recall) for point in of_kind])]
        best.sort(key=lambda point: value(point, cost))
        rest = [point for point in of_kind if point not in best]
        look = {"colour": COLOUR.get(kind, COLOURS[-1]), "marker": MARKER.get(kind, "X")}
        if best:
            series.append(_series(f"{kind}, Pareto front", best, cost, line=True, **look))
            alt.append(f"{title}, {kind}: " + "; ".join(_in_words(point, cost) for point in best))
        if rest:
            series.append(_series(kind, rest, cost, line=False, filled=False, strong=False, **look))
    label = f"{words} (log scale)"
    return Panel(title, label, QUALITIES["recall@1"], series, log_x=True, ticks=ticks(series), x_range=shown)


def plot(found: dict[str, list[Point]]) -> dict:
    """The interactive plot: one row for each point of each source, one view for each gallery size."""
    sizes = sorted({search.images for of_source in found.values() for search, _ in of_source})
    rows = [
        _row(source, point) | {"view": sizes.index(point[0].images)}
        for source, of_source in found.items()
        for point in of_source
    ]
    names = [{"value": name, "text": name} for name in map(plots.cleaned, found)]
    filters = [{"field": "source", "label": "Measured on", "all": False, "values": names}]
    filters += [plots.choice(rows, "images", "Images"), plots.choice(rows, "mode", "Call", first=MODES["single"])]
    others = {"threads": "Threads", "top_k": "Top-k", "engine": "Engine", "kind": "Vectors", "variant": "Model"}
    filters += [plots.choice(rows, field, label) for field, label in others.items()]
    return plots.plot(rows, [_view(rows, images) for images in sizes], filters, AXES, front="kind", shared=True)


def _row(source: str, point: Point) -> dict:
    search, call = point
    recalls = {name: search.cell(name).value for name in QUALITIES}
    return {
        "source": source,
        "same": f"{search.variant} {search.label} {search.images}",
        **{name: getattr(search, name) for name in ("images", "kind", "variant", "engine", "top_k")},
        "mode": MODES[call.mode] if call else "not timed",
        "threads": call.threads if call else None,
        "tip": tooltip(point),
        **{name: value(point, name) for name in COSTS},
        **{name: None if recall is None else 100 * recall for name, recall in recalls.items()},
    }


def tooltip(point: Point) -> str:
    """The records behind a point, line by line."""
    search, call = point
    recall = search.cell("recall@1")
    interval = "" if recall.low is None else f" (95% interval {percent(recall.low)} to {percent(recall.high)})"
    asked = f", {integer(search.queries)} queries" if search.queries else f", {recall.n}" if recall.n else ""
    lines = [search.label, f"{search.variant} ({search.kind}), {integer(search.images)} images"]
    lines.append(f"R@1 {percent(recall.value)} %{interval}{asked}")
    cells = [search.cell("recall@10"), search.timed(call) if call else search.cell("qps")]
    cells += [search.cell(cost) for cost in ("bytes_per_image", "build_seconds")]
    if not cells[0].missing:
        lines.append(f"R@10 {percent(cells[0].value)} %")
    for cost, (*_, written, unit) in COSTS.items():
        if (number := value(point, cost)) is not None:
            lines.append(f"{written(number)} {unit}" + (f", {call.label}" if cost == "qps" else ""))
    lines += [note for note in dict.fromkeys(cell.n for cell in cells) if note and note != recall.n]
    records = dict.fromkeys(record for cell in (recall, *cells) for record in cell.points)
    return "\n".join([*lines, f"records: {', '.join(records)}"])


def _in_words(point: Point, cost: str) -> str:
    *_, written, unit = COSTS[cost]
    return f"{point[0].label} {percent(point[0].recall)} %, {written(value(point, cost))} {unit}"


def _series(name: str, mine: list[Point], cost: str, **look) -> Series:
    return Series(name, [value(point, cost) for point in mine], [100 * search.recall for search, _ in mine], **look)


def _view(rows: list[dict], images: int) -> dict:
    """The Vega-Lite view of one gallery size; the browser adds the axes. All views have the same legend."""
    order = list(COLOUR)
    kinds = sorted({row["kind"] for row in rows}, key=lambda kind: (order.index(kind) if kind in COLOUR else 9, kind))
    names = [plots.cleaned(kind) for kind in kinds]
    by_kind = {"field": "kind", "type": "nominal"}
    colours = [COLOUR.get(kind, COLOURS[-1]) for kind in kinds]
    shapes = [plots.SHAPES[MARKER.get(kind, "X")] for kind in kinds]
    at = {"type": "quantitative", "axis": {"labelOverlap": True, "tickCount": 6}}
    encoding = {channel: at | {"field": channel} for channel in ("x", "y")}
    encoding["color"] = by_kind | {"scale": {"domain": names, "range": colours}}
    marks = {
        "shape": by_kind | {"scale": {"domain": names, "range": shapes}},
        "size": {"condition": {"test": "datum.front", "value": 110}, "value": 40},
        "opacity": {"condition": {"test": "datum.front", "value": 1}, "value": 0.55},
        "tooltip": {"field": "tip", "type": "nominal"},
    }
    line = {"mark": {"type": "line", "strokeWidth": 1.6}, "transform": [{"filter": "datum.front"}]}
    layers = [
        line | {"encoding": {"order": {"field": "x"}}},
        {"mark": {"type": "point", "filled": True}, "encoding": marks},
    ]
    title = f"{integer(images)} images"
    return {"title": title, "width": "container", "height": 420, "encoding": encoding, "layer": layers}
