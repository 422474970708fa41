"""From sections to files: pages through Jinja (everything escaped), tables in three formats, figures in two."""

import base64
import hashlib
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from bench.files import atomic_folder
from reports import tables
from reports.evidence import Evidence
from reports.sections import (
    Section,
    ablations,
    answer,
    claims,
    compression,
    efficiency,
    learning,
    method,
    retrieved,
    scale,
    scale_engines,
    scale_growth,
)
from reports.tables import clean

# Page -> its parts, in order.
PAGES = {
    "index": (answer, ablations, compression, efficiency, scale, scale_engines, scale_growth, learning, retrieved, claims, method),
}


def write(evidence: Evidence, out: Path) -> Path:
    """Builds the whole site beside `out`, then puts it in place; returns the first page."""
    pages = {name: [made for part in parts if (made := part.section(evidence))] for name, parts in PAGES.items()}
    with atomic_folder(out) as partial:
        for folder in ("tables", "figures"):
            (partial / folder).mkdir()
        for section in (section for sections in pages.values() for section in sections):
            write_files(section, partial)
        for name, sections in pages.items():
            (partial / f"{name}.html").write_text(render(evidence, sections), encoding="utf-8")
    return Path(out) / "index.html"


def write_files(section: Section, folder: Path) -> None:
    """A section's tables as CSV, Markdown and LaTeX, its figures as SVG and PNG."""
    for table in section.tables:
        for suffix, text in (("csv", table.to_csv()), ("md", table.to_markdown()), ("tex", table.to_latex())):
            (folder / "tables" / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    for figure in section.figures:
        (folder / "figures" / f"{figure.name}.svg").write_bytes(figure.svg)
        (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)


def render(evidence: Evidence, sections: list[Section]) -> str:
    """One page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"cell_text": tables.text, "is_number": tables.is_number}
    style = resources.files("reports").joinpath("templates/style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        evidence=evidence,
        sections=sections,
        style=Markup(style),  # ours, and named by its hash in the policy: no other style and no script can run
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        tables={table.name: table for section in sections for table in section.tables},
        figures={figure.name: figure for section in sections for figure in section.figures},
    )
