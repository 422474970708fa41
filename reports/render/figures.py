"""Figures drawn by matplotlib, each as SVG (in the page) and PNG. What to draw is decided in the sections; this file knows no record."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
from matplotlib import patheffects, pyplot
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from reports.render import svg

# Near Okabe and Ito's colours, distinct to colour-blind readers, dark enough on white; the reference and the baseline always have the first two.
COLOURS = ("#0072b2", "#c25500", "#009e73", "#cc79a7", "#7a6a00", "#3d92c4", "#5b3a8c", "#6b6b6b")
MARKERS = "osD^vPX*<>ph"
DASHES = ("-", "--", "-.", ":")
WIDTH = 11.0  # inches, of one panel or of several: text then has the same size in all figures
LINE = 0.3  # inches, of a line of a forest plot
INK, MUTED, GRID, PAPER = "#1a1a1a", "#595959", "#e3e3e3", "#ffffff"
# Colour -> the one in its place where a reader prefers the dark: that of the page's style, and of each series a lighter one.
IN_THE_DARK = ("#4fa8e0", "#ff8a3c", "#2fc79a", "#e79cc6", "#d6c34a", "#a5d8f7", "#b79af0", "#a9a9a9")
DARK = {INK: "#e8eaed", MUTED: "#a9b1bc", GRID: "#363c45", PAPER: "#14171b"} | dict(
    zip(COLOURS, IN_THE_DARK, strict=True)
)
RESOLUTION, SHADES = 160, 256  # of a PNG: dots per inch, colours
STYLE = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelcolor": INK,
    "axes.edgecolor": MUTED, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": MUTED, "ytick.color": MUTED, "text.color": INK, "legend.frameon": False,
    "legend.fontsize": 9, "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER, "lines.linewidth": 1.8, "svg.hashsalt": "lexlip-bench",
    "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """`alt` says in words what the picture shows; `caption` how to read it; `panels` what was drawn, for its interactive twin.

    `plot`: an interactive twin of its own in place of that of the panels, as `reports.render.plots` makes it.
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
    """Points (x, y) with optional (low, high) of y and a label each; `line` joins them; hollow markers where `filled` is False.

    `details`: of each point what a reader sees who points at it, such as the records behind it.
    """

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
    """`names`: of the lines of a forest plot, top line first; y is then the number of a line, and bounds are of x. `x_range`: what is shown."""

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
    """Name -> colour, marker and dashes, by position: the first names are the ones that must be told apart at a glance."""
    return {
        name: {
            "colour": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "dashes": DASHES[i // len(COLOURS) % len(DASHES)],
        }
        for i, name in enumerate(names)
    }


def draw(name: str, caption: str, alt: str, panels: list[Panel], columns: int = 3) -> Figure:
    """Panels in rows of `columns` with one legend below; series of one name share an entry."""
    with matplotlib.rc_context(STYLE):
        names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
        rows, columns = -(-len(panels) // columns), min(columns, len(panels))
        lines = max(len(panel.names) for panel in panels)
        legend = 0.25 * -(-len(names) // 4)
        height = rows * (1.1 + LINE * lines if lines else 3.75) + legend + 0.15
        canvas, axes = pyplot.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
        try:
            handles = {}
            for ax in axes.flat[len(panels) :]:
                ax.set_axis_off()
            for panel, ax in zip(panels, axes.flat, strict=False):
                handles |= {series.name: _plot(ax, series, panel) for series in panel.series}
                _dress(ax, panel)
            canvas.legend(
                handles.values(), handles, loc="lower center", ncols=min(4, max(len(names), 1)), bbox_to_anchor=(0.5, 0)
            )
            canvas.tight_layout(rect=(0, (legend + 0.12) / height, 1, 1))
            return Figure(name, caption, alt, _saved(canvas, "svg"), _saved(canvas, "png"), tuple(panels))
        finally:
            pyplot.close(canvas)


def _plot(ax, series: Series, panel: Panel):
    errors = None
    if series.bounds and any(series.bounds):
        middle = series.x if panel.names else series.y
        errors = [
            [at - b[0] if b else 0 for at, b in zip(middle, series.bounds, strict=True)],
            [b[1] - at if b else 0 for at, b in zip(middle, series.bounds, strict=True)],
        ]
        errors = [[max(0.0, length) for length in side] for side in errors]
    width = 1.9 if series.strong else 1.2
    handle = ax.errorbar(
        series.x, series.y, **{"xerr" if panel.names else "yerr": errors}, color=series.colour, marker=series.marker, markersize=6.5 if series.strong else 4.5,
        markerfacecolor=series.colour if series.filled else PAPER, linestyle=series.dashes if series.line else "none",
        linewidth=width, elinewidth=1, capsize=2, alpha=1 if series.strong else 0.85, zorder=2 if series.strong else 3,
    )  # fmt: skip
    labelled = zip(series.x, series.y, series.labels, strict=True) if series.labels else ()
    for i, (x, y, label) in enumerate(labelled):
        above = (i % 2 == 0) == series.filled  # neighbours on opposite sides
        place = (7, 6) if above else (7, -13)
        note = ax.annotate(
            label, (x, y), xytext=place, textcoords="offset points", fontsize=9, color=series.colour, zorder=4
        )
        note.set_path_effects([patheffects.withStroke(linewidth=3, foreground=PAPER)])  # readable across a line
    return handle


def _dress(ax, panel: Panel) -> None:
    ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    ax.margins(x=0.12, y=0.12)
    if panel.log_x:
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        ax.xaxis.set_major_locator(
            FixedLocator(panel.ticks) if panel.ticks else LogLocator(subs=(1,) if high / low > 1e4 else (1, 2, 5))
        )
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    if panel.x_range:
        ax.set_xlim(panel.x_range)
    if panel.log_y:
        ax.set_yscale("log")
        written = panel.y_format or (lambda value: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    if panel.names:
        ax.set(yticks=range(len(panel.names)), yticklabels=panel.names, ylim=(len(panel.names) - 0.4, -0.6))
        ax.axvline(0, color=MUTED, linewidth=1, zorder=1)
    if not panel.series:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=MUTED)
        ax.set(xticks=[], yticks=[])


def _saved(canvas: Canvas, kind: str) -> bytes:
    """The bytes of a "svg", or of a "png" with the colours that it needs: a quarter of what one for every colour takes."""
    stream = io.BytesIO()
    if kind == "svg":
        canvas.savefig(stream, format=kind, metadata={"Date": None})
        return svg.compact(stream.getvalue().decode(), DARK).encode()
    canvas.savefig(stream, format="png", dpi=RESOLUTION, pil_kwargs={"compress_level": 0})
    picture = Image.open(stream).convert("RGB")
    made = io.BytesIO()
    picture.quantize(SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()
