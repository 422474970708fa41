"""Compact SVG draws the same picture; its dark colours have enough contrast."""

import re
from importlib import resources
from itertools import zip_longest
from xml.etree import ElementTree

import pytest

from reports.render import figures, svg
from reports.render.figures import COLOURS, DARK, INK, MUTED, PAPER, Panel, Series

HREF = "{http://www.w3.org/1999/xlink}href"
LEAST_TEXT, LEAST_MARK = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
LABELLED = COLOURS[:2]  # series whose points have labels in their colour
TOLERANCE = 0.0051  # points: coordinates keep two decimals


@pytest.fixture(scope="module")
def both():
    """(by matplotlib, compact) of a figure with lines, markers, errors, labels, hollow markers and a forest."""
    made = {}
    keep = lambda text, dark: made.setdefault("raw", text) and svg_compact(text, dark)  # noqa: E731
    svg_compact = svg.compact
    series = [
        Series(
            "a",
            [1, 10, 100],
            [0.31, 2.5, 3.7],
            [(0.2, 0.9), None, (3.0, 4.0)],
            ["8", "", "16"],
            **figures.palette("ab")["a"],
        ),
        Series("b & <c>", [2, 20], [0.5, 0.25], filled=False, strong=False, **figures.palette("ab")["b"]),
    ]
    panels = [
        Panel("one", "cost", "quality", series, log_x=True),
        Panel("two", "difference", "", [Series("a", [-1.0], [0], [(-2, 1)])], names=("x",)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "compact", keep)
        figure = figures.draw("made_up", "caption", "alt", panels)
    return made["raw"], figure.svg.decode()


def looks(text: str) -> dict[str, dict[str, str]]:
    """Class -> its declarations, of the light part of the style sheet."""
    sheet = re.search(r"<style>(.*?)</style>", text)[1].partition("@media")[0]
    return {name: declared(look) for name, look in re.findall(r"\.(\w+)\{(.*?)\}", sheet)}


def declared(look: str) -> dict[str, str]:
    return {key.strip(): value.strip() for key, _, value in (part.partition(":") for part in look.split(";"))}


def drawn(text: str) -> list[tuple]:
    """Tag, style, references as running numbers, letters of the path and numbers of every drawing element."""
    root, classes, seen, found = ElementTree.fromstring(text), looks(text) if "@media" in text else {}, {}, []
    for element in root.iter():
        get, tag = (lambda name, element=element: element.get(name, "")), element.tag.rpartition("}")[2]
        if tag not in ("path", "use", "rect", "clipPath") and not (
            tag == "g" and (get("style") or get("class") or get("transform"))
        ):
            continue
        look = declared(get("style")) if get("style") else classes.get(get("class"), {})
        names = (get("id") if tag != "g" else "", get(HREF).strip("#"), get("clip-path")[5:-1])
        refers = [seen.setdefault(name, len(seen)) for name in names if name]
        numbers = re.findall(r"-?\d+(?:\.\d+)?", " ".join(map(get, ("d", "x", "y", "width", "height"))))
        moved = [
            number for number in re.findall(r"-?\d+(?:\.\d+)?", get("transform")) if float(number)
        ]  # x is a translation by (x, 0)
        found.append(
            (tag, look, refers, re.sub(r"[^A-Za-z]", "", get("d")), [float(number) for number in numbers + moved])
        )
    return found


def test_the_same_picture(both):
    raw, compact = both
    assert len(compact) < 0.65 * len(raw)
    for before, after in zip_longest(drawn(raw), drawn(compact)):
        assert before[:4] == after[:4]
        assert before[4] == pytest.approx(after[4], abs=TOLERANCE)


def test_in_the_dark_every_colour_of_the_light_is_another(both):
    _, compact = both
    sheet = re.search(r"@media \(prefers-color-scheme:dark\)\{(.*)\}</style>", compact)[1]
    dark = {name: declared(look) for name, look in re.findall(r"\.(\w+)\{(.*?)\}", sheet)}
    light = looks(compact)
    for name, look in light.items():
        coloured = {key: value for key, value in look.items() if value.startswith("#")}
        assert dark.get(name, {}) == {key: DARK[value] for key, value in coloured.items()}
    assert set(dark) <= set(light)


def test_a_colour_that_has_none_for_the_dark_stays():
    compact = svg.compact(
        '<svg><style type="text/css">*{}</style>'
        '<path style="fill: #123456; stroke: none" d="M 0.004 -0.001 \nL 2.126 3 \nz\n"/></svg>',
        {},
    )
    assert compact == (
        "<svg><style>*{stroke-linejoin:round;stroke-linecap:butt}.a{fill:#123456;stroke:none}"
        "@media (prefers-color-scheme:dark){}</style>"
        '<path class="a" d="M0 0L2.13 3z"/></svg>'
    )


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [{}, DARK], ids=["light", "dark"])
def test_contrast_holds(scheme):
    shown = lambda colour: scheme.get(colour, colour)  # noqa: E731
    for colour in COLOURS:
        assert contrast(shown(colour), shown(PAPER)) >= LEAST_MARK, colour
    for colour in (INK, MUTED, *LABELLED):
        assert contrast(shown(colour), shown(PAPER)) >= LEAST_TEXT, colour
    assert len({shown(colour) for colour in COLOURS}) == len(COLOURS)


def test_figures_stand_on_the_paper_of_the_page():
    style = resources.files("reports.render").joinpath("templates/style.css").read_text(encoding="utf-8")
    assert re.findall(r"--paper: (#\w+)", style)[:2] == [PAPER, DARK[PAPER]]
