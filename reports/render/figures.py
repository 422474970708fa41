"""Figures drawn by matplotlib as SVG (for the page) and PNG. Knows no records: the pages decide what to draw."""

import contextlib
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports.render import svg

# Near Okabe and Ito's colours, distinct to colour-blind readers and dark enough on white.
COLOURS = ("#0072b2", "#c25500", "#009e73", "#cc79a7", "#7a6a00", "#3d92c4", "#5b3a8c", "#6b6b6b")
MARKERS = "osD^vPX*<>ph"
DASHES = ("-", "--", "-.", ":")
WIDTH = 11.0  # inches, of every figure, so that text has the same size in all
LINE = 0.3  # inches, height of a line of a forest plot
INK, MUTED, GRID, PAPER = "#1a1a1a", "#595959", "#e3e3e3", "#ffffff"
# Colour -> its replacement in dark mode.
IN_THE_DARK = ("#4fa8e0", "#ff8a3c", "#2fc79a", "#e79cc6", "#d6c34a", "#a5d8f7", "#b79af0", "#a9a9a9")
DARK = {INK: "#e8eaed", MUTED: "#a9b1bc", GRID: "#363c45", PAPER: "#14171b"} | dict(
    zip(COLOURS, IN_THE_DARK, strict=True)
)
RESOLUTION, SHADES = 160, 256  # of a PNG: dots per inch, colours
FEW_DECADES = 100
STYLE = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": MUTED,
    "ytick.color": MUTED, "text.color": INK, "legend.frameon": False, "legend.fontsize": 9, "figure.facecolor": PAPER,
    "axes.facecolor": PAPER, "savefig.facecolor": PAPER, "lines.linewidth": 1.8, "svg.hashsalt": "lexlip-bench",
    "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A drawn figure. alt: text for screen readers. panels: what was drawn, for the interactive plot.

    plot: replaces the interactive plot of the panels (see `reports.render.plots`).
    """

    name: str
    caption: str
    alt: str
    svg: bytes
    png: bytes
    panels: tuple["Panel", ...] = ()
    plot: dict | None = None


@dataclass(frozen=True)
class Series:
    """Points (x, y), optionally with bounds (low, high) of y, a label and tooltip details each; `line` joins them."""

    name: str
    x: list[float]
    y: list[float]
    bounds: list[tuple[float, float] | None] | None = None
    labels: list[str] | None = None
    colour: str = COLOURS[0]
    marker: str = "o"
    dashes: str = "-"
    line: bool = True
    filled: bool = True
    strong: bool = True
    details: list[str] | None = None


@dataclass(frozen=True)
class Panel:
    """Axes and series. names: lines of a forest plot, top first; y is then a line number and bounds are of x."""

    title: str
    x_label: str
    y_label: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False
    y_format: Callable[[float], str] | None = None
    ticks: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    x_range: tuple[float, float] | None = None


def palette(names: Iterable[str]) -> dict[str, dict]:
    """Name -> colour, marker and dashes, by position; the first names get the most distinct looks."""
    return {
        name: {
            "colour": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "dashes": DASHES[i // len(COLOURS) % len(DASHES)],
        }
        for i, name in enumerate(names)
    }


def ticks(series: Iterable[Series]) -> tuple[float, ...]:
    """Ticks of a log axis: powers of ten, and their 2- and 5-fold if there are few."""
    values = [x for one in series for x in one.x]
    if not values:
        return ()
    exponents = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    steps = (1, 2, 5) if max(values) / min(values) < FEW_DECADES else (1,)
    return tuple(step * 10.0**exponent for exponent in exponents for step in steps)


def draw(name: str, caption: str, alt: str, panels: list[Panel], columns: int = 3) -> Figure:
    """Draws panels in rows of `columns` with one legend below; series of the same name share an entry."""
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    rows, columns = -(-len(panels) // columns), min(columns, len(panels))
    lines = max(len(panel.names) for panel in panels)
    legend = 0.25 * -(-len(names) // 4)
    height = rows * (1.1 + LINE * lines if lines else 3.75) + legend + 0.15
    with _canvas(rows, columns, height) as (canvas, axes):
        handles = {}
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        for panel, ax in zip(panels, axes.flat, strict=False):
            handles |= {series.name: _plot(ax, series, panel) for series in panel.series}
            _dress(ax, panel)
        place = {"loc": "lower center", "ncols": min(4, max(len(names), 1)), "bbox_to_anchor": (0.5, 0)}
        canvas.legend(handles.values(), handles, **place)
        _lay_out(canvas, (legend + 0.12) / height)
        return Figure(name, caption, alt, _saved(canvas, "svg"), _saved(canvas, "png"), tuple(panels))


@contextlib.contextmanager
def _canvas(rows: int, columns: int, height: float):
    """A matplotlib figure and its axes, closed afterwards. matplotlib is imported here: it takes a second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        canvas, axes = pyplot.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
        try:
            yield canvas, axes
        finally:
            pyplot.close(canvas)


def _lay_out(canvas, bottom: float) -> None:
    canvas.tight_layout(rect=(0, bottom, 1, 1))


def _plot(ax, series: Series, panel: Panel):
    from matplotlib import patheffects

    errors = None
    if series.bounds and any(series.bounds):
        middle = list(zip(series.x if panel.names else series.y, series.bounds, strict=True))
        below = [max(0.0, at - bound[0]) if bound else 0 for at, bound in middle]
        errors = [below, [max(0.0, bound[1] - at) if bound else 0 for at, bound in middle]]
    handle = ax.errorbar(
        series.x,
        series.y,
        **{"xerr" if panel.names else "yerr": errors},
        color=series.colour,
        marker=series.marker,
        markersize=6.5 if series.strong else 4.5,
        markerfacecolor=series.colour if series.filled else PAPER,
        linestyle=series.dashes if series.line else "none",
        linewidth=1.9 if series.strong else 1.2,
        elinewidth=1,
        capsize=2,
        alpha=1 if series.strong else 0.85,
        zorder=2 if series.strong else 3,
    )
    labelled = zip(series.x, series.y, series.labels, strict=True) if series.labels else ()
    for i, (x, y, label) in enumerate(labelled):
        above = (i % 2 == 0) == series.filled  # neighbours on opposite sides
        at = {"xytext": (7, 6) if above else (7, -13), "textcoords": "offset points"}
        note = ax.annotate(label, (x, y), fontsize=9, color=series.colour, zorder=4, **at)
        note.set_path_effects([patheffects.withStroke(linewidth=3, foreground=PAPER)])  # legible on top of a line
    return handle


def _dress(ax, panel: Panel) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    written = lambda value: f"{value:,.0f}" if value >= 1 else f"{value:g}"  # noqa: E731
    ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    ax.margins(x=0.12, y=0.12)
    if panel.log_x:
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        several = LogLocator(subs=(1,) if high / low > 1e4 else (1, 2, 5))
        ax.xaxis.set_major_locator(FixedLocator(panel.ticks) if panel.ticks else several)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    if panel.x_range:
        ax.set_xlim(panel.x_range)
    if panel.log_y:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: (panel.y_format or written)(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    if panel.names:
        ax.set(yticks=range(len(panel.names)), yticklabels=panel.names, ylim=(len(panel.names) - 0.4, -0.6))
        ax.axvline(0, color=MUTED, linewidth=1, zorder=1)
    if not panel.series:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=MUTED)
        ax.set(xticks=[], yticks=[])


def _saved(canvas, kind: str) -> bytes:
    """Bytes of an "svg", or of a "png" with a palette of `SHADES` colours, a quarter of the size of true colour."""
    from PIL import Image

    stream = io.BytesIO()
    if kind == "svg":
        canvas.savefig(stream, format=kind, metadata={"Date": None})
        return svg.compact(stream.getvalue().decode(), DARK).encode()
    canvas.savefig(stream, format="png", dpi=RESOLUTION, pil_kwargs={"compress_level": 0})
    image, made = Image.open(stream).convert("RGB"), io.BytesIO()
    image.quantize(SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()
