"""Interactive twins of the figures, drawn in the browser by Vega-Lite; `static/plots.js` reads what is made here.

A plot is a dict:

    rows      what is drawn; `view` is the number of the view that a row belongs to, `tip` what a reader sees who points at it
    views     Vega-Lite specifications without data, each drawn in a box of its own width
    shared    whether all views have the same x axis; a view without a row that is shown is left out
    filters   (field, label, values, all): a choice of values of a field; `all` says whether "all" is one. Where it is none, later choices have
              the values that occur with the chosen one. `first` is chosen at first, or the last where `last` is true
    axes      (channel, label, options): a choice of the quantity of an axis; an option has field, title, log, and `better`: more or less
    front     the field whose every value gets a Pareto front over the shown rows, or null

Texts in it are cleaned as everything on a page is; the browser shows them as text only. `packed` makes the block of JSON of a page: its rows by
column, and each line of text once. Colours are those of the light scheme; the browser puts those of `figures.DARK` in their place.
"""

import math
from collections.abc import Iterable

from reports.render.figures import GRID, INK, MUTED, PAPER, Figure, Panel, Series
from reports.render.tables import clean

SHAPES = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross", "X": "cross", "*": "diamond",
          "<": "triangle-left", ">": "triangle-right", "p": "circle", "h": "square"}  # fmt: skip
STROKES = {"-": [1, 0], "--": [6, 3], "-.": [6, 3, 1, 3], ":": [2, 2]}
DIGITS = 7  # of a number that is only drawn: the records have it in full
HEIGHT, LINE, PADDING = 300, 24, 8  # pixels: of a view, of a line of a forest plot, between a point and the edge
MOST_IN_EACH = 6  # series that each of several views names in a legend of its own
CONFIG = {
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED,
             "labelColor": MUTED, "titleColor": INK, "labelLimit": 260, "labelSeparation": 8},
    "legend": {"labelFontSize": 12, "orient": "bottom", "title": None, "labelColor": INK, "labelLimit": 260, "symbolSize": 70, "symbolOpacity": 1},
    "title": {"fontSize": 13, "anchor": "start", "color": INK},
}  # fmt: skip


def of_figure(figure: Figure) -> dict:
    """The plot of a figure: its own, or that of its panels."""
    return figure.plot or of_panels(figure.panels)


def of_panels(panels: Iterable[Panel]) -> dict:
    """A view for each panel; many series that several panels have in common get one legend before them all."""
    panels = list(panels)
    looks = {series.name: series for panel in panels for series in panel.series}
    apart = len(panels) > 1 and len(looks) > MOST_IN_EACH
    rows, views = [], [_legend(looks)] if apart else []
    for view, panel in enumerate(panels, len(views)):
        rows += [
            row | {"view": view} for number, series in enumerate(panel.series) for row in _rows(panel, series, number)
        ]
        views.append(_view(panel, looks if apart else None))
    return plot(rows, views)


def plot(
    rows: list[dict],
    views: list[dict],
    filters: Iterable[dict] = (),
    axes: Iterable[dict] = (),
    front: str | None = None,
    shared: bool = False,
) -> dict:
    """A plot, its texts cleaned."""
    rows = [{key: cleaned(value) for key, value in row.items()} for row in rows]
    return {
        "rows": rows,
        "views": views,
        "filters": list(filters),
        "axes": list(axes),
        "front": front,
        "shared": shared,
    }


def packed(plot: dict) -> dict:
    """A plot as a page holds it: `rows` is then their number, `texts` every line of text once, and `columns` has of each field its values in
    the order of the rows, or one value where all are the same; a text is the list of the numbers of its lines; null stands where a row lacks the field.
    """
    lines: dict[str, int] = {}

    def coded(value):
        if isinstance(value, str):
            return [lines.setdefault(line, len(lines)) for line in value.split("\n")]
        return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value

    rows = plot["rows"]
    columns = {key: [coded(row.get(key)) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    same = {key: {"all": values[0]} for key, values in columns.items() if all(value == values[0] for value in values)}
    return plot | {"rows": len(rows), "columns": columns | same, "texts": list(lines), "config": CONFIG}


def cleaned(value):
    """A text as a page may show it, line by line; None for a number that JSON does not know; anything else as it is."""
    if isinstance(value, str):
        return "\n".join(clean(line) for line in value.split("\n"))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def choice(rows: list[dict], field: str, label: str, all: bool = True, **chosen) -> dict:
    """A filter by the values that a field has, in their order; None reads "–"."""
    values = sorted({row[field] for row in rows}, key=lambda value: (value is None, isinstance(value, str), value))
    return {
        "field": field,
        "label": label,
        "values": [{"value": cleaned(value), "text": _written(value)} for value in values],
        "all": all,
    } | chosen


def axis(field: str, title: str, better: str, log: bool = False) -> dict:
    return {"field": field, "title": title, "better": better, "log": log}


def _written(value) -> str:
    return "–" if value is None else clean(value) if isinstance(value, str) else f"{value:,.0f}"


def _rows(panel: Panel, series: Series, number: int) -> list[dict]:
    found = []
    bounds = series.bounds or [None] * len(series.x)
    labels = series.labels or [""] * len(series.x)
    details = series.details or [""] * len(series.x)
    for x, y, bound, label, detail in zip(series.x, series.y, bounds, labels, details, strict=True):
        at = f"{panel.x_label}: {x:,.4g}"
        shown = [series.name, *([panel.names[int(y)], at] if panel.names else [at, f"{panel.y_label}: {y:,.4g}"])]
        if bound:
            shown.append(f"95% interval: {bound[0]:,.4g} to {bound[1]:,.4g}")
        row = {"series": series.name, "number": number, "x": x, "y": panel.names[int(y)] if panel.names else y, "label": label,
               "filled": series.filled, "line": series.line, "size": 60 if series.marker else 20, "tip": "\n".join([*shown, *filter(None, [detail])])}  # fmt: skip
        found.append(row | ({"low": bound[0], "high": bound[1]} if bound else {}))
    return found


def _by_series(looks: dict[str, Series]) -> dict:
    """Colour, shape and dashes of each series."""
    domain = [clean(name) for name in looks]
    scales = {
        "color": [one.colour for one in looks.values()],
        "shape": [SHAPES.get(one.marker, "circle") for one in looks.values()],
        "strokeDash": [STROKES[one.dashes] for one in looks.values()],
    }
    return {
        channel: {"field": "series", "type": "nominal", "scale": {"domain": domain, "range": range_}}
        for channel, range_ in scales.items()
    }


def _legend(looks: dict[str, Series]) -> dict:
    """A view of nothing but the legend."""
    by_series = _by_series(looks)
    return {"usermeta": {"legend": True}, "width": "container", "height": 1, "mark": {"type": "point", "filled": True},
            "encoding": {channel: by_series[channel] for channel in ("color", "shape")}}  # fmt: skip


def _view(panel: Panel, shared: dict[str, Series] | None) -> dict:
    """A Vega-Lite specification of a panel, without data. `shared`: the series of all panels, whose legend stands elsewhere."""
    looks: dict[str, Series] = {}
    for series in panel.series:
        looks.setdefault(series.name, series)
    by_series = _by_series(shared or looks)
    if shared:
        by_series = {channel: encoding | {"legend": None} for channel, encoding in by_series.items()}
    quantitative = {"type": "quantitative"}
    x = quantitative | {
        "field": "x",
        "title": panel.x_label,
        "scale": _scale(panel.log_x),
        "axis": _axis(panel, "x"),
    }
    y = quantitative | {
        "field": "y",
        "title": panel.y_label,
        "scale": _scale(panel.log_y),
        "axis": _axis(panel, "y"),
    }
    if panel.names:
        y = {"type": "nominal", "field": "y", "title": None, "sort": [clean(name) for name in panel.names]}
    along = "x" if panel.names else "y"
    bars = {along: {"x": x, "y": y}[along] | {"field": "low"}, f"{along}2": {"field": "high"}}
    sized = {"field": "size", "type": "quantitative", "scale": None}
    points = {"shape": by_series["shape"], "size": sized, "tooltip": {"field": "tip", "type": "nominal"}}
    layers = [
        {"mark": {"type": "rule", "opacity": 0.6}, "transform": [{"filter": "isValid(datum.low)"}], "encoding": bars},
        {"mark": {"type": "line", "strokeWidth": 1.8}, "transform": [{"filter": "datum.line"}],
         "encoding": {"detail": {"field": "number"}, "strokeDash": by_series["strokeDash"]}},
        {"mark": {"type": "point", "filled": True, "opacity": 1}, "transform": [{"filter": "datum.filled"}], "encoding": points},
        {"mark": {"type": "point", "filled": False, "fill": PAPER, "opacity": 1}, "transform": [{"filter": "!datum.filled"}], "encoding": points},
        {"mark": {"type": "text", "dx": 8, "dy": -8, "align": "left", "fontSize": 11}, "transform": [{"filter": "datum.label"}],
         "encoding": {"text": {"field": "label"}}},
    ]  # fmt: skip
    whole = {"x": x, "y": y, "color": by_series["color"]}
    if panel.names:
        layers = [layer for layer in layers if layer["mark"]["type"] != "line"]
        at_zero = [{"sample": 1}, {"calculate": "0", "as": "x"}]
        layers.insert(
            0, {"mark": {"type": "rule"}, "transform": at_zero, "encoding": {"y": None, "color": {"value": MUTED}}}
        )
    height = LINE * len(panel.names) + 20 if panel.names else HEIGHT
    return {"title": clean(panel.title), "width": "container", "height": height, "encoding": whole, "layer": layers}


def _scale(log: bool) -> dict:
    """An axis ends a little beyond its points: rounded, it would be empty for the most part, or fall below 0."""
    return ({"type": "log"} if log else {"zero": False}) | {"nice": False, "padding": PADDING}


def _axis(panel: Panel, channel: str) -> dict:
    """Written as in the figure; the few sizes that were measured as they are."""
    made = {"format": "~s"} if panel.y_format and channel == "y" else {"format": ",~r"}
    if channel == "x" and panel.ticks:
        made["values"] = list(panel.ticks)
    return made | {"labelOverlap": True, "tickCount": 6}
