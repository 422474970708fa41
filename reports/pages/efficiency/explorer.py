"""Quality against each cost, of every measured way of searching: a plot to choose from, with the Pareto front of each paradigm."""

from reports.pages import Section
from reports.pages.scale.engines import pareto, ticks
from reports.records.evidence import Evidence
from reports.records.scale import KINDS, MODES
from reports.records.ways import Way, sources
from reports.render import plots
from reports.render.figures import COLOURS, Figure, Panel, Series, draw
from reports.render.tables import integer, percent, significant, size

COLOUR = dict(zip((*KINDS, "unknown"), COLOURS, strict=False))
MARKER = {"lexicon": "o", "dense": "s", "unknown": "D"}
AXES = (
    {"channel": "y", "label": "Quality", "options": [
        plots.axis("recall@1", "R@1, text to image, %", "more"), plots.axis("recall@10", "R@10, text to image, %", "more"),
    ]},
    {"channel": "x", "label": "Cost", "options": [
        plots.axis("qps", "queries per second", "more", log=True), plots.axis("bytes_per_image", "index bytes per image", "less", log=True),
        plots.axis("build_seconds", "build time, s", "less", log=True),
    ]},
)  # fmt: skip
BYTES, BUILD = "bytes_per_image", "build_seconds"
AROUND = 1.5  # of the slowest and the fastest, as a factor


def section(evidence: Evidence) -> Section:
    found = sources(evidence)
    return Section(
        "explorer", "Choose: quality against speed, size and build time", figures=[figure(found)] if found else []
    )


def figure(found: dict[str, list[Way]]) -> Figure:
    """Still: R@1 of the first source, against speed at each size of the gallery, and against bytes and build time at the largest. Interactive: everything."""
    title, ways = next(iter(found.items()))
    sizes = sorted({way.images for way in ways})
    largest = f"{integer(sizes[-1])} images"
    asked = [way for way in ways if way.mode == "single"] or ways
    fewest = min((way.threads for way in asked if way.threads), default=None)
    asked = [way for way in asked if way.threads == fewest and way.value("qps")]
    rates = [way.value("qps") for way in asked]
    panels, told = [], []
    for images in sizes if asked else ():
        mine = [way for way in asked if way.images == images]
        same = (min(rates) / AROUND, max(rates) * AROUND)
        panels.append(_panel(f"{integer(images)} images: speed", mine, "qps", "queries per second", told, same))
    once = list({(way.label, way.variant): way for way in ways if way.images == sizes[-1]}.values())
    for metric, short, words in ((BYTES, "size", "index bytes per image"), (BUILD, "build time", "build time, s")):
        panels.append(_panel(f"{largest}: {short}", once, metric, words, told))
    panels = [panel for panel in panels if panel.series] or panels[:1]
    speed = f"against speed ({_called(asked[0].mode, fewest)}) at each size of the gallery, and " if asked else ""
    caption = (
        "Large points and lines: the Pareto front of each paradigm among the points shown, those that no other of its kind beats in both. Point at one for its record. "
        f"The still picture, for paper and for browsers without scripts: R@1 in {title}, {speed}against size and build time over {largest}; up is better."
    )
    still = draw(
        "explorer",
        caption,
        f"R@1 against speed, size and build time. Pareto fronts: {'. '.join(told) or 'none'}.",
        panels,
    )
    return Figure(still.name, still.caption, still.alt, still.svg, still.png, plot=plot(found))


def _panel(
    title: str, ways: list[Way], metric: str, words: str, told: list[str], shown: tuple[float, float] | None = None
) -> Panel:
    """R@1 against a cost, with the front of each paradigm, which is said in `told` too."""
    series = []
    for kind in dict.fromkeys(way.kind for way in ways):
        mine = [way for way in ways if way.kind == kind and (way.value(metric) or 0) > 0]
        sign = 1 if metric == "qps" else -1
        best = [mine[i] for i in pareto([(sign * way.value(metric), way.value("recall@1")) for way in mine])]
        best.sort(key=lambda way: way.value(metric))
        rest = [way for way in mine if way not in best]
        look = {"colour": COLOUR.get(kind, COLOURS[-1]), "marker": MARKER.get(kind, "X")}
        if best:
            series.append(_series(f"{kind}, Pareto front", best, metric, line=True, **look))
            told.append(f"{title}, {kind}: " + "; ".join(_in_words(way, metric) for way in best))
        if rest:
            series.append(_series(kind, rest, metric, line=False, filled=False, strong=False, **look))
    label = f"{words} (log scale)"
    return Panel(title, label, "R@1, text to image, %", series, log_x=True, ticks=ticks(series), x_range=shown)


def plot(found: dict[str, list[Way]]) -> dict:
    sizes = sorted({way.images for ways in found.values() for way in ways})  # each a view of its own
    rows = [_row(source, way) | {"view": sizes.index(way.images)} for source, ways in found.items() for way in ways]
    names = [plots.cleaned(name) for name in found]
    filters = [
        {"field": "source", "label": "Measured on", "all": False, "values": [{"value": name, "text": name} for name in names]},
        plots.choice(rows, "images", "Images"), plots.choice(rows, "mode", "Called", first=MODES["single"]),
        plots.choice(rows, "threads", "Threads"), plots.choice(rows, "top_k", "Lexicons kept"), plots.choice(rows, "engine", "Engine"),
        plots.choice(rows, "kind", "Paradigm"), plots.choice(rows, "variant", "Model"),
    ]  # fmt: skip
    return plots.plot(rows, [_view(rows, images) for images in sizes], filters, AXES, front="kind", shared=True)


def _row(source: str, way: Way) -> dict:
    cells = {metric: cell.value for metric, cell in way.cells.items()}
    recalls = {metric: None if cells[metric] is None else 100 * cells[metric] for metric in ("recall@1", "recall@10")}
    return {
        "source": source, "same": f"{way.variant} {way.label} {way.images}", "images": way.images, "kind": way.kind, "variant": way.variant,
        "engine": way.engine, "top_k": way.top_k, "mode": MODES.get(way.mode, "not timed"), "threads": way.threads, "tip": told(way),
        **{metric: cells[metric] for metric in ("qps", BYTES, BUILD)}, **recalls,
    }  # fmt: skip


def told(way: Way) -> str:
    """The record behind a point, in lines."""
    recall = way.cells["recall@1"]
    interval = "" if recall.low is None else f" (95% interval {percent(recall.low)} to {percent(recall.high)})"
    asked = f", {integer(way.queries)} queries" if way.queries else f", {recall.n}" if recall.n else ""
    called = _called(way.mode, way.threads)
    lines = [
        way.label,
        f"{way.variant} ({way.kind}), {integer(way.images)} images",
        f"R@1 {percent(recall.value)} %{interval}{asked}",
    ]
    for metric, words, written in (
        ("recall@10", "R@10, %", percent),
        ("qps", "queries/s", significant),
        (BYTES, "per image", size),
        (BUILD, "s to build", significant),
    ):
        if way.value(metric) is not None:
            lines.append(f"{written(way.value(metric))} {words}" + (f", {called}" if metric == "qps" else ""))
    lines += [note for note in way.notes if note != recall.n] + [f"records: {', '.join(way.points)}"]
    return "\n".join(lines)


def _called(mode: str, threads: int | None) -> str:
    return f"{MODES[mode]}, {threads or '?'} thread{'' if threads == 1 else 's'}" if mode in MODES else "not timed"


def _in_words(way: Way, metric: str) -> str:
    value = way.value(metric)
    cost = size(value) if metric == BYTES else f"{significant(value)} {'queries/s' if metric == 'qps' else 's'}"
    return f"{way.label} {percent(way.value('recall@1'))} %, {cost}"


def _series(name: str, ways: list[Way], metric: str, **look) -> Series:
    return Series(name, [way.value(metric) for way in ways], [100 * way.value("recall@1") for way in ways], **look)


def _view(rows: list[dict], images: int) -> dict:
    """The Vega-Lite view of one size, whose axes the browser fills in; all have the same legend."""
    kinds = sorted(
        {row["kind"] for row in rows}, key=lambda kind: (list(COLOUR).index(kind) if kind in COLOUR else 9, kind)
    )
    names = [plots.cleaned(kind) for kind in kinds]
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": names, "range": [COLOUR.get(kind, COLOURS[-1]) for kind in kinds]},
    }
    shape = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": names, "range": [plots.SHAPES[MARKER.get(kind, "X")] for kind in kinds]},
    }
    at = {
        channel: {"field": channel, "type": "quantitative", "axis": {"labelOverlap": True, "tickCount": 6}}
        for channel in ("x", "y")
    }
    size_ = {"condition": {"test": "datum.front", "value": 110}, "value": 40}
    opacity = {"condition": {"test": "datum.front", "value": 1}, "value": 0.55}
    layers = [
        {"mark": {"type": "line", "strokeWidth": 1.6}, "transform": [{"filter": "datum.front"}], "encoding": {"order": {"field": "x"}}},
        {"mark": {"type": "point", "filled": True}, "encoding": {"shape": shape, "size": size_, "opacity": opacity, "tooltip": {"field": "tip", "type": "nominal"}}},
    ]  # fmt: skip
    title = f"{integer(images)} images"
    return {"title": title, "width": "container", "height": 420, "encoding": at | {"color": colour}, "layer": layers}
