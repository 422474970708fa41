"""Interactive plots, drawn in the browser by Vega-Lite; `static/plots.js` reads the dict that is made here:

    rows      data; `view` is the number of the view of a row, `tip` its tooltip
    views     Vega-Lite specifications without data, each drawn in its own box
    shared    whether all views have the same x axis; views without visible rows are hidden
    filters   (field, label, values, all): choice of a value of a field; `all`: whether "all" is an option. Without it,
              later filters offer only values that occur with the choice. `first`: initial value; `last`: the last is
    axes      (channel, label, options): choice of the quantity of an axis; an option has field, title, log and better
    front     field whose values each get a Pareto front over the visible rows, or null

Texts are cleaned; the browser shows them as text only. `packed` makes the JSON of a page: rows by column, and each line
of text once. Colours are those of the light scheme; the browser replaces them by `figures.DARK`.
"""

import math
from collections.abc import Iterable

from reports.render.figures import GRID, INK, MUTED, PAPER, Figure, Panel, Series
from reports.render.tables import clean

SHAPES = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross",
    "X": "cross", "*": "diamond", "<": "triangle-left", ">": "triangle-right", "p": "circle", "h": "square",
}  # fmt: skip
STROKES = {"-": [1, 0], "--": [6, 3], "-.": [6, 3, 1, 3], ":": [2, 2]}
DIGITS = 7  # significant digits of numbers that are only drawn
HEIGHT, LINE, PADDING = 300, 24, 8  # pixels: of a view, of a line of a forest plot, between a point and the edge
MOST_IN_EACH = 6  # series: more than this, and several views share one legend
CONFIG = {
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": GRID, "domainColor": MUTED,
        "tickColor": MUTED, "labelColor": MUTED, "titleColor": INK, "labelLimit": 260, "labelSeparation": 8,
    },
    "legend": {
        "labelFontSize": 12, "orient": "bottom", "title": None, "labelColor": INK, "labelLimit": 260,
        "symbolSize": 70, "symbolOpacity": 1,
    },
    "title": {"fontSize": 13, "anchor": "start", "color": INK},
}  # fmt: skip


def of_figure(figure: Figure) -> dict:
    """The interactive plot of a figure."""
    return figure.plot or of_panels(figure.panels)


def of_panels(panels: Iterable[Panel]) -> dict:
    """One view for each panel; many series get one shared legend before all views."""
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


def plot(rows: list[dict], views: list[dict], filters=(), axes=(), front: str | None = None, shared=False) -> dict:
    """A plot with cleaned texts; see the module docstring."""
    rows = [{key: cleaned(value) for key, value in row.items()} for row in rows]
    choices = {"filters": list(filters), "axes": list(axes)}
    return {"rows": rows, "views": views, **choices, "front": front, "shared": shared}


def packed(plot: dict) -> dict:
    """A plot as the JSON of a page.

    rows: number of rows. texts: every line of text once. columns: values of each field, or {"all": value} for a
    constant; a text is a list of indices into `texts`; null where a row lacks the field.
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
    """Cleaned lines of a text; None for a non-finite number; any other value unchanged."""
    if isinstance(value, str):
        return "\n".join(clean(line) for line in value.split("\n"))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def choice(rows: list[dict], field: str, label: str, all: bool = True, **chosen) -> dict:
    """A filter by the sorted values of a field; None is shown as "–"."""
    values = sorted({row[field] for row in rows}, key=lambda value: (value is None, isinstance(value, str), value))
    options = [{"value": cleaned(value), "text": _written(value)} for value in values]
    return {"field": field, "label": label, "values": options, "all": all} | chosen


def axis(field: str, title: str, better: str, log: bool = False) -> dict:
    """An option of an axis; better: "more" or "less"."""
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
        row = {
            "series": series.name,
            "number": number,
            "x": x,
            "y": panel.names[int(y)] if panel.names else y,
            "label": label,
            "filled": series.filled,
            "line": series.line,
            "size": 60 if series.marker else 20,
            "tip": "\n".join([*shown, *filter(None, [detail])]),
        }
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
    """A view with nothing but the legend."""
    encoding = {channel: one for channel, one in _by_series(looks).items() if channel in ("color", "shape")}
    mark = {"type": "point", "filled": True}
    return {"usermeta": {"legend": True}, "width": "container", "height": 1, "mark": mark, "encoding": encoding}


def _view(panel: Panel, shared: dict[str, Series] | None) -> dict:
    """Vega-Lite specification of a panel without data. `shared`: series of all panels, if their legend is separate."""
    looks: dict[str, Series] = {}
    for series in panel.series:
        looks.setdefault(series.name, series)
    by_series = _by_series(shared or looks)
    if shared:
        by_series = {channel: encoding | {"legend": None} for channel, encoding in by_series.items()}
    at = {}
    for channel, label, log in (("x", panel.x_label, panel.log_x), ("y", panel.y_label, panel.log_y)):
        drawn = {"title": label, "scale": _scale(log), "axis": _axis(panel, channel)}
        at[channel] = {"type": "quantitative", "field": channel} | drawn
    if panel.names:
        names = [clean(name) for name in panel.names]
        at["y"] = {"type": "nominal", "field": "y", "title": None, "sort": names}
    height = LINE * len(panel.names) + 20 if panel.names else HEIGHT
    encoding, layers = at | {"color": by_series["color"]}, _layers(panel, at, by_series)
    return {"title": clean(panel.title), "width": "container", "height": height, "encoding": encoding, "layer": layers}


def _layers(panel: Panel, at: dict, by_series: dict) -> list[dict]:
    """Bars, lines or the zero rule of a forest plot, filled and hollow points, labels."""

    def layer(mark: dict, condition: str, encoding: dict) -> dict:
        return {"mark": mark, "transform": [{"filter": condition}], "encoding": encoding}

    along = "x" if panel.names else "y"
    bars = {along: at[along] | {"field": "low"}, f"{along}2": {"field": "high"}}
    line = {"detail": {"field": "number"}, "strokeDash": by_series["strokeDash"]}
    sized = {"field": "size", "type": "quantitative", "scale": None}
    points = {"shape": by_series["shape"], "size": sized, "tooltip": {"field": "tip", "type": "nominal"}}
    label = {"type": "text", "dx": 8, "dy": -8, "align": "left", "fontSize": 11}
    layers = [
        layer({"type": "rule", "opacity": 0.6}, "isValid(datum.low)", bars),
        layer({"type": "line", "strokeWidth": 1.8}, "datum.line", line),
        layer({"type": "point", "filled": True, "opacity": 1}, "datum.filled", points),
        layer({"type": "point", "filled": False, "fill": PAPER, "opacity": 1}, "!datum.filled", points),
        layer(label, "datum.label", {"text": {"field": "label"}}),
    ]
    if panel.names:
        zero = {"transform": [{"sample": 1}, {"calculate": "0", "as": "x"}]}
        zero |= {"mark": {"type": "rule"}, "encoding": {"y": None, "color": {"value": MUTED}}}
        layers = [zero, *(one for one in layers if one["mark"]["type"] != "line")]
    return layers


def _scale(log: bool) -> dict:
    """An axis that ends a little beyond its points; a rounded one could be mostly empty, or go below 0."""
    return ({"type": "log"} if log else {"zero": False}) | {"nice": False, "padding": PADDING}


def _axis(panel: Panel, channel: str) -> dict:
    """Number format as in the figure, and the ticks of the panel."""
    made = {"format": "~s"} if panel.y_format and channel == "y" else {"format": ",~r"}
    if channel == "x" and panel.ticks:
        made["values"] = list(panel.ticks)
    return made | {"labelOverlap": True, "tickCount": 6}
