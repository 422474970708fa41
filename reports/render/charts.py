"""Charts as SVG: marks over one or several panels, drawn for a wide and for a narrow screen. Knows no records.

A chart stands in a page with its title, source and note as text around it; `file` makes the same picture of its own.
Colours are classes (`charts.css`), so they follow the scheme of the reader. Marks carry their tooltip in `data-tip`
and the row of the table that they stand for in `data-k`; `static/page.js` shows and filters them.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from xml.sax.saxutils import escape, quoteattr

from markupsafe import Markup

from reports.render.tables import clean

WIDTHS = {"wide": 1000, "narrow": 356}  # pixels
HEIGHT, LINE = 300, 22  # pixels of a panel, and of a line of a panel with names
LEGEND, TITLE, BOTTOM, RIGHT = 24, 22, 44, 14
AT_END = 74  # pixels beside a panel of lines with names at their ends
CHARACTER = 7.0  # pixels, mean width at the 12 pixels of the labels, in the widest of the usual fonts
RADIUS, SMALLEST = 13.0, 3.0  # pixels, of the mark of the largest size and of the smallest
SHAPES = ("circle", "square", "diamond")
PAD = 0.06  # share of an axis left free at its ends


@dataclass(frozen=True)
class Mark:
    """A point. low, high: interval of y, or of x if the panel has names. size: bytes, drawn as area.

    key: row of a table. hidden: shown only when a filter asks for it.
    """

    x: float
    y: float
    tip: str = ""
    low: float | None = None
    high: float | None = None
    size: float | None = None
    label: str = ""
    key: int | None = None
    hidden: bool = False


@dataclass(frozen=True)
class Series:
    """Marks of one colour and shape. line: "" none, "all" joins the marks, "front" those that none beats in both.

    quiet: thin and small, for what only gives the context.
    """

    name: str
    marks: tuple[Mark, ...]
    colour: int = 0
    line: str = ""
    hollow: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Axis:
    """names: of the lines of a panel, top first. zero: whether 0 is shown. log: marks at 0 or less are left out."""

    title: str
    log: bool = False
    names: tuple[str, ...] = ()
    zero: bool = False
    format: Callable[[float], str] | None = None


@dataclass(frozen=True)
class Panel:
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Chart:
    """title: the finding in plain words. subtitle: what is drawn. alt: the numbers, for screen readers. group: value of
    the filter that shows this chart. width: pixels on a wide screen.
    """

    name: str
    title: str
    subtitle: str
    source: str
    alt: str
    panels: tuple[Panel, ...]
    columns: int = 2
    note: str = ""
    group: str = ""
    width: int = WIDTHS["wide"]
    height: int = HEIGHT

    def svg(self, screen: str) -> Markup:
        """The picture for a "wide" or a "narrow" screen, as part of a page."""
        narrow = screen == "narrow"
        width = WIDTHS[screen] if narrow else self.width
        return Markup(_drawn(self, width, 1 if narrow else min(self.columns, len(self.panels)), screen))

    def file(self) -> str:
        """The wide picture as a file of its own."""
        own = 'xmlns="http://www.w3.org/2000/svg" '
        svg = str(self.svg("wide")).replace("<svg ", f"<svg {own}", 1)
        return svg.replace(">", f"><style>{css()}</style><rect class='paper' width='100%' height='100%'/>", 1)


@functools.cache
def css() -> str:
    return resources.files("reports.render").joinpath("templates/charts.css").read_text(encoding="utf-8")


def front(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other is at least as good as in both and better in one, by ascending x."""
    found, best = [], -math.inf
    for place in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1])):
        if points[place][1] > best:
            found, best = [place, *found], points[place][1]
    return found


def short(value: float) -> str:
    """A number of an axis: 0.5, 20, 5k, 1M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}".replace("-", "−")


def ticks(low: float, high: float, log: bool, most: int) -> list[float]:
    """Round numbers within an axis, at most `most` or so."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
            if len(found) <= most + 1:
                break
        return found if len(found) > 1 else ticks(low, high, False, most)  # within a decade
    raw = (high - low) / most or 1.0
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 10) for place in range(first, math.floor(high / step + 1e-9) + 1)]


# --- drawing


def _drawn(chart: Chart, width: int, columns: int, screen: str) -> str:
    entries = list(dict.fromkeys((s.name, s.colour, s.hollow) for panel in chart.panels for s in panel.series))
    sizes = [m.size for panel in chart.panels for s in panel.series for m in s.marks if m.size]
    head, y = _legend(entries, max(sizes, default=0), width)
    parts, across = [head], width / columns
    for place in range(0, len(chart.panels), columns):
        row = chart.panels[place : place + columns]
        lines = max(len(panel.y.names) for panel in row)
        height = TITLE + BOTTOM + (LINE * lines + 8 if lines else chart.height)
        for column, panel in enumerate(row):
            parts.append(_panel(panel, column * across, y, across, height, max(sizes, default=0)))
        y += height
    about = f'class="chart {screen}" viewBox="0 0 {width} {y:.0f}" width="{width}" height="{y:.0f}" role="img"'
    return f"<svg {about} aria-label={quoteattr(clean(chart.alt))}>{''.join(parts)}</svg>"


def _legend(entries: list[tuple], largest: float, width: int) -> tuple[str, float]:
    """Names of the series in lines as wide as the chart, then the sizes; and where they end."""
    parts, x, y = [], 8.0, 14.0
    items = [(name, _mark(colour, 0, 0, 5, hollow)) for name, colour, hollow in entries if name]
    items = [(name, symbol, 5.0) for name, symbol in items]
    for bytes_ in _sizes(largest):
        radius = _radius(bytes_, largest)
        items.append((f"{short(bytes_)}B per image", f'<circle class="key" r="{radius:.1f}"/>', radius))
    for name, symbol, radius in items:
        needed = 2 * radius + 8 + CHARACTER * len(name)
        if x > 8 and x + needed > width:
            x, y = 8.0, y + LEGEND
        parts.append(f'<g transform="translate({x + radius:.0f} {y - 4:.0f})">{symbol}</g>')
        parts.append(f'<text x="{x + 2 * radius + 6:.0f}" y="{y:.0f}">{escape(clean(name))}</text>')
        x += needed + 16
    return "".join(parts), y + 14 if items else 4.0


def _sizes(largest: float) -> list[float]:
    """Round sizes for the legend, up to the largest."""
    return [10.0 ** math.floor(math.log10(largest) - less) for less in (1, 0)] if largest else []


def _radius(bytes_: float | None, largest: float) -> float:
    return max(SMALLEST, RADIUS * math.sqrt(bytes_ / largest)) if bytes_ and largest else 4.0


def _scale(values: list[float], axis: Axis, start: float, stop: float) -> tuple[Callable[[float], float], float, float]:
    """Value -> pixel, and the ends of the axis."""
    known = [value for value in values if not axis.log or value > 0] or [1.0]
    low, high = min(known), max(known)
    low, high = (min(low, 0.0), max(high, 0.0)) if axis.zero else (low, high)
    of = math.log10 if axis.log else float
    room = (of(high) - of(low)) * PAD or (0.3 if axis.log else abs(high) * 0.1 or 1.0)
    bottom = of(low) if axis.zero and low == 0 else of(low) - room
    top = of(high) + room
    ends = (10**bottom, 10**top) if axis.log else (bottom, top)
    within = lambda value: max(value, ends[0]) if axis.log else value  # noqa: E731  (an interval may reach 0)
    at = lambda value: start + (of(within(value)) - bottom) / (top - bottom) * (stop - start)  # noqa: E731
    return at, *ends


def _panel(panel: Panel, x: float, y: float, width: float, height: float, largest: float) -> str:
    names = [clean(name) for name in panel.y.names]
    panel = replace(panel, series=tuple(_drawable(series, panel) for series in panel.series))
    marks = [mark for series in panel.series for mark in series.marks]
    beside = AT_END if any(one.line == "all" and mark.label for one in panel.series for mark in one.marks) else 0
    y0, y1 = y + TITLE, y + height - BOTTOM
    bounds = [value for mark in marks for value in (mark.low, mark.high) if value is not None]
    if names:
        at_y, y_ticks = (lambda value: y0 + 4 + LINE * (value + 0.5)), []
        left = min(CHARACTER * max(map(len, names)) + 14, width * 0.45)
    else:
        at_y, *ends_y = _scale([m.y for m in marks] + bounds, panel.y, y1, y0)
        found = ticks(*ends_y, panel.y.log, max(2, int((y1 - y0) / 55)))
        y_ticks = [(at_y(value), (panel.y.format or short)(value)) for value in found]
        left = CHARACTER * max((len(text) for _, text in y_ticks), default=0) + 14
    y_title = clean(panel.y.title) if panel.y.title != panel.title else ""
    left += 16 if y_title else 0
    x0, x1 = x + left, x + width - RIGHT - beside
    at_x, *ends_x = _scale([m.x for m in marks] + (bounds if names else []), panel.x, x0, x1)
    parts = [f'<text class="title" x="{x + 8:.0f}" y="{y + 13:.0f}">{escape(clean(panel.title))}</text>']
    for value in ticks(*ends_x, panel.x.log, max(2, int((x1 - x0) / 70))):
        at = at_x(value)
        line = "zero" if names and value == 0 else "grid"
        parts.append(f'<path class="{line}" d="M{at:.1f} {y0:.0f}V{y1:.0f}"/>')
        parts.append(
            f'<text class="soft middle" x="{at:.1f}" y="{y1 + 16:.0f}">{(panel.x.format or short)(value)}</text>'
        )
    for place, name in enumerate(names):
        parts.append(f'<text class="end" x="{x0 - 8:.0f}" y="{at_y(place) + 4:.0f}">{escape(name)}</text>')
    for at, text in y_ticks:
        parts.append(f'<path class="grid" d="M{x0:.0f} {at:.1f}H{x1:.0f}"/>')
        parts.append(f'<text class="soft end" x="{x0 - 6:.0f}" y="{at + 4:.1f}">{text}</text>')
    if y_title:
        turned = f'transform="rotate(-90 {x + 12:.0f} {(y0 + y1) / 2:.0f})"'
        parts.append(
            f'<text class="soft middle" x="{x + 12:.0f}" y="{(y0 + y1) / 2:.0f}" {turned}>{escape(y_title)}</text>'
        )
    parts.append(
        f'<text class="soft middle" x="{(x0 + x1) / 2:.0f}" y="{y1 + 34:.0f}">{escape(clean(panel.x.title))}</text>'
    )
    taken: list[tuple[float, float, float, float]] = []
    area = x0, y0, x1 + beside + RIGHT, y1
    body = [_series(series, at_x, at_y, bool(names), largest, taken, area) for series in panel.series]
    if not marks:
        body = [f'<text class="soft middle" x="{(x0 + x1) / 2:.0f}" y="{(y0 + y1) / 2:.0f}">not measured</text>']
    return f'<g class="panel">{"".join(parts)}{"".join(body)}</g>'


def _drawable(series: Series, panel: Panel) -> Series:
    """The series without marks that have no place on an axis of logarithms."""
    marks = (m for m in series.marks if (m.x > 0 or not panel.x.log) and (m.y > 0 or not panel.y.log))
    return replace(series, marks=tuple(marks))


def _series(series: Series, at_x, at_y, names: bool, largest: float, taken: list, area: tuple) -> str:
    at = [(at_x(mark.x), at_y(mark.y)) for mark in series.marks]
    shown = [place for place, mark in enumerate(series.marks) if not mark.hidden]
    best = [shown[i] for i in front([(at[i][0], -at[i][1]) for i in shown])] if series.line == "front" else shown
    on_front, parts = set(best), []
    if series.line:
        path = "L".join(f"{at[i][0]:.1f} {at[i][1]:.1f}" for i in best)
        parts.append(f'<path class="line" d="M{path}"/>' if path else '<path class="line" d=""/>')
    labels: dict[str, str] = {}
    for place, mark in enumerate(series.marks):
        (x, y), radius = at[place], 2.0 if series.quiet else _radius(mark.size, largest)
        if mark.low is not None and mark.high is not None:
            low, high = (at_x(mark.low), at_x(mark.high)) if names else (at_y(mark.low), at_y(mark.high))
            parts.append(f'<path class="bar" d="M{low:.1f} {y:.1f}H{high:.1f}"/>' if names else
                         f'<path class="bar" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')  # fmt: skip
        weak = series.line == "front" and place not in on_front
        parts.append(_mark(series.colour, x, y, radius, series.hollow, mark, weak))
        if mark.label and not weak and not mark.hidden and not labels.get(mark.label):
            labels[mark.label] = _label(clean(mark.label), x, y, radius, taken, area)
    look = f"c{series.colour}{' fronts' if series.line == 'front' else ''}{' quiet' if series.quiet else ''}"
    return f'<g class="{look}">{"".join(parts)}{"".join(labels.values())}</g>'


def _mark(colour: int, x: float, y: float, r: float, hollow: bool, mark: Mark | None = None, weak=False) -> str:
    look = " ".join(["m", *(["hollow"] if hollow else []), *(["weak"] if weak else [])])
    about = f'class="{look}{"" if mark else f" c{colour}"}"'
    if mark:
        about += f" data-tip={quoteattr(clean_lines(mark.tip))}" if mark.tip else ""
        about += f' data-k="{mark.key}"' if mark.key is not None else ""
        about += f' data-x="{x:.1f}" data-y="{y:.1f}"' if mark.key is not None else ""
        about += ' hidden=""' if mark.hidden else ""
    shape = SHAPES[colour % len(SHAPES)]
    if shape == "circle":
        return f'<circle {about} cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'
    half = r * (0.89 if shape == "square" else 1.2)
    if shape == "square":
        return f'<rect {about} x="{x - half:.1f}" y="{y - half:.1f}" width="{2 * half:.1f}" height="{2 * half:.1f}"/>'
    corners = (x - half, y), (x, y - half), (x + half, y), (x, y + half)
    return f'<path {about} d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in corners)}Z"/>'


def _label(text: str, x: float, y: float, r: float, taken: list, area: tuple[float, float, float, float]) -> str:
    """A label beside a mark, within the area and where it meets no other; nothing if there is no room."""
    width = CHARACTER * len(text)
    for dx, dy, anchor in ((r + 5, 4, "start"), (-r - 5, 4, "end"), (0, -r - 6, "middle"), (0, r + 14, "middle")):
        left = x + dx - {"start": 0, "end": width, "middle": width / 2}[anchor]
        box = left, y + dy - 11, left + width, y + dy + 3
        apart = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
        if apart and left >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3]:
            taken.append(box)
            return f'<text class="label {anchor}" x="{x + dx:.1f}" y="{y + dy:.1f}">{escape(text)}</text>'
    return ""


def clean_lines(text: str) -> str:
    """A tooltip of several lines."""
    return "\n".join(clean(line) for line in text.split("\n"))
