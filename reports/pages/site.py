"""Writes the site: pages through Jinja (everything escaped), tables in three formats, charts as SVG, the records.

`PAGES` lists the pages; a new page is a module with `sections(evidence)` and an entry there. Each corpus of the records
has pages, tables and figures of its own: the one with most points in the site itself, the others in folders.
"""

import base64
import functools
import hashlib
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType

import jinja2
from markupsafe import Markup

from models.files import atomic_folder
from reports.pages import (
    Section,
    ablations,
    answer,
    corpora,
    downloads,
    explore,
    frontier,
    look,
    method,
    photographs,
    scale,
)
from reports.records.evidence import Evidence
from reports.render import charts, tables
from reports.render.tables import clean

STATIC = ("page.js",)
RUN = "python -m ablations.run"


@dataclass(frozen=True)
class Page:
    """`lead`: line under the title. `empty`: command that fills an empty page."""

    name: str
    title: str
    lead: str
    module: ModuleType
    empty: str = RUN


PAGES = (
    Page("index", "Answer", "", answer),
    Page("explore", "Explore", "Every search that was measured: quality, speed and size.", explore),
    Page(
        "frontier", "Frontier", "The best lexicon search against the best dense search, and both together.", frontier,
        "python -m bench.scale --corpus 1M",
    ),
    Page("ablations", "Ablations", "What each part of LexLIP does, one change at a time.", ablations),
    Page(
        "photographs", "Photographs", "The same models on real photographs.", photographs,
        "python -m ablations.run --profile photos",
    ),
    Page(
        "scale", "Scale", "What happens to speed, size and quality as the gallery grows.", scale,
        "python -m bench.scale --corpus 1M",
    ),
    Page("look", "Look inside", "Images as words, results of both models, and where they disagree most.", look),
    Page("method", "Method", "How the numbers were made, and how to make them again.", method),
)  # fmt: skip


def write(evidence: Evidence, out: Path) -> Path:
    """Writes the site atomically to `out`, replacing it; returns its first page."""
    found = corpora.main_first(evidence.by_corpus())
    with atomic_folder(out) as partial:
        (partial / "static").mkdir()
        for name in STATIC:
            shutil.copyfile(str(resources.files("reports.render").joinpath("static", name)), partial / "static" / name)
        files = downloads.write(evidence, partial / downloads.FOLDER)
        folders = ["", *corpora.folders([one.corpus for one in found[1:]])]
        sizes = [corpora.gallery(one) for one in found]
        for folder, one in zip(folders, found, strict=True):
            root = "../" if folder else ""
            switch = [
                (f"{root}{other}/" if other else root, *rest)
                for other, *rest in zip(folders, found, sizes, strict=True)
            ]
            others = [] if folder else found[1:]
            write_pages(one, partial / folder, others, files=files, root=root, switch=switch if len(found) > 1 else ())
    return Path(out) / "index.html"


def write_pages(evidence: Evidence, folder: Path, others: list[Evidence] = (), **shared) -> None:
    """Writes the pages, tables and figures of a corpus; photographs of the other corpora stand beside its own."""
    made = {page.name: page.module.sections(evidence) for page in PAGES}
    for other in others:
        made["photographs"] += photographs.sections(other)
    everything = [section for sections in made.values() for section in sections]
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True)
    for section in everything:
        write_files(section, folder)
    shared |= {"all_tables": [table for section in everything for table in section.all_tables]}
    for page in PAGES:
        html = render(evidence, page, made[page.name], **shared)
        (folder / f"{page.name}.html").write_text(html, encoding="utf-8")


def write_files(section: Section, folder: Path) -> None:
    """Writes the tables of a section as CSV, Markdown and LaTeX, and its charts as SVG."""
    for table in section.all_tables:
        for suffix, text in (("csv", table.to_csv()), ("md", table.to_markdown()), ("tex", table.to_latex())):
            (folder / "tables" / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    for chart in section.charts:
        (folder / "figures" / f"{chart.name}.svg").write_text(chart.file(), encoding="utf-8")


def render(evidence: Evidence, page: Page, sections: list[Section], **shared) -> str:
    """HTML of a page. It may run the scripts of the site, and no others."""
    style = _style()
    values = {
        "page": page, "pages": PAGES, "sections": sections, "scripts": STATIC, "evidence": evidence,
        "style": Markup(style),  # the policy names it by its hash: no other style applies
        "style_hash": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    }  # fmt: skip
    return _environment().get_template("page.html").render(**values, **shared)


@functools.cache
def _style() -> str:
    return resources.files("reports.render").joinpath("templates/style.css").read_text(encoding="utf-8") + charts.css()


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.render"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "cell_text": tables.text,
        "is_number": tables.is_number,
        "source_of": tables.source,
        "size": tables.size,
        "filters": explore.FILTERS,
    }
    return made
