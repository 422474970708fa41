"""Compacts the SVG of matplotlib, and lets it follow the colour scheme of the reader; the picture is unchanged.

Repeated styles become classes of one style sheet with their dark colours (`figures.DARK`). Coordinates keep hundredths
of a point; ids, spaces and comments are dropped. Readers without media queries show the light scheme.
"""

import itertools
import re
import string
from collections.abc import Iterator

NUMBER = re.compile(r"-?\d+\.\d+")
STYLE_SHEET = "*{stroke-linejoin:round;stroke-linecap:butt}"  # what matplotlib writes; other rules follow it


def compact(svg: str, dark: dict[str, str]) -> str:
    """The same picture, smaller. dark: colour -> its replacement in dark mode, both as #rrggbb."""
    svg = re.sub(r"<!DOCTYPE.*?>\s*|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids of groups, which nothing refers to
    svg = re.sub(r' d="([^"]*)"', lambda path: f' d="{_path(path[1])}"', svg)
    svg = re.sub(r' (x|y)="([^"]*)"', lambda at: f' {at[1]}="{_rounded(at[2])}"', svg)
    svg = re.sub(r"translate\(([^)]*)\)", lambda at: f"translate({_rounded(at[1])})", svg)
    svg = re.sub(r"(<use [^>]*?)transform=\"translate\((\S+) 0\)\"", r'\1x="\2"', svg)
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"<g>(<(?:use|path) [^>]*/>)</g>", r"\1", svg)  # a group of one element
    return _in_classes(_renamed(svg), dark)


def _path(text: str) -> str:
    return re.sub(r" ?([A-Za-z]) ?", r"\1", " ".join(_rounded(text).split()))


def _rounded(text: str) -> str:
    """The same numbers to two decimals, without trailing zeros; no minus before a zero."""
    return NUMBER.sub(lambda number: f"{round(float(number[0]), 2) + 0.0:g}", text)


def _names() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def _renamed(svg: str) -> str:
    """Short names for ids."""
    short = dict(zip(dict.fromkeys(re.findall(r' id="([^"]*)"', svg)), _names(), strict=False))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{short[found[1]]}"', svg)
    return re.sub(r'(url\(#|href="#)([^")]*)', lambda found: found[1] + short[found[2]], svg)


def _in_classes(svg: str, dark: dict[str, str]) -> str:
    classes = dict(zip(dict.fromkeys(re.findall(r' style="([^"]*)"', svg)), _names(), strict=False))
    svg = re.sub(r' style="([^"]*)"', lambda found: f' class="{classes[found[1]]}"', svg)
    rules = {name: look.replace(": ", ":").replace("; ", ";") for look, name in classes.items()}
    in_dark = {name: _declared(look, dark) for name, look in rules.items()}
    sheet = STYLE_SHEET + "".join(f".{name}{{{look}}}" for name, look in rules.items())
    dark_rules = "".join(f".{name}{{{look}}}" for name, look in in_dark.items() if look)
    sheet += f"@media (prefers-color-scheme:dark){{{dark_rules}}}"
    return re.sub(r"<style[^>]*>.*?</style>", lambda _: f"<style>{sheet}</style>", svg, count=1, flags=re.DOTALL)


def _declared(look: str, dark: dict[str, str]) -> str:
    """Declarations of a style whose colour differs in dark mode, with the dark colour."""
    parts = (part.partition(":") for part in look.split(";"))
    return ";".join(f"{key}:{dark[value]}" for key, _, value in parts if value in dark)
