"""SVG as matplotlib writes it, made smaller and able to follow a reader's dark scheme; the picture stays the same.

Looks that elements repeat become classes of one style sheet, which has their colours for the dark too (`figures.DARK`). Coordinates keep
hundredths of a point, which no screen and no printer shows; names, spaces and comments go. What reads no media queries, such as a typesetter, shows
the light scheme.
"""

import itertools
import re
import string
from collections.abc import Iterator

NUMBER = re.compile(r"-?\d+\.\d+")
STYLE_SHEET = "*{stroke-linejoin:round;stroke-linecap:butt}"  # what matplotlib writes; other rules follow it


def compact(svg: str, dark: dict[str, str]) -> str:
    """The same picture; dark: colour -> the one in its place where a reader prefers the dark, both as #rrggbb."""
    svg = re.sub(r"<!DOCTYPE.*?>\s*|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # headings of parts, which nothing refers to
    svg = re.sub(r' d="([^"]*)"', lambda path: f' d="{_path(path[1])}"', svg)
    svg = re.sub(r' (x|y)="([^"]*)"', lambda at: f' {at[1]}="{_rounded(at[2])}"', svg)
    svg = re.sub(r"translate\(([^)]*)\)", lambda at: f"translate({_rounded(at[1])})", svg)
    svg = re.sub(r"(<use [^>]*?)transform=\"translate\((\S+) 0\)\"", r'\1x="\2"', svg)
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"<g>(<(?:use|path) [^>]*/>)</g>", r"\1", svg)  # a part of one element
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
    """Short names for what is referred to."""
    short = dict(zip(dict.fromkeys(re.findall(r' id="([^"]*)"', svg)), _names(), strict=False))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{short[found[1]]}"', svg)
    return re.sub(r'(url\(#|href="#)([^")]*)', lambda found: found[1] + short[found[2]], svg)


def _in_classes(svg: str, dark: dict[str, str]) -> str:
    classes = dict(zip(dict.fromkeys(re.findall(r' style="([^"]*)"', svg)), _names(), strict=False))
    svg = re.sub(r' style="([^"]*)"', lambda found: f' class="{classes[found[1]]}"', svg)
    rules = {name: look.replace(": ", ":").replace("; ", ";") for look, name in classes.items()}
    in_dark = {name: _declared(look, dark) for name, look in rules.items()}
    sheet = STYLE_SHEET + "".join(f".{name}{{{look}}}" for name, look in rules.items())
    sheet += f"@media (prefers-color-scheme:dark){{{''.join(f'.{name}{{{look}}}' for name, look in in_dark.items() if look)}}}"
    return re.sub(r"<style[^>]*>.*?</style>", lambda _: f"<style>{sheet}</style>", svg, count=1, flags=re.DOTALL)


def _declared(look: str, dark: dict[str, str]) -> str:
    """The declarations of a look whose colour is another one in the dark, with that colour."""
    parts = (part.partition(":") for part in look.split(";"))
    return ";".join(f"{key}:{dark[value]}" for key, _, value in parts if value in dark)
