"""Writes the site: pages through Jinja (everything escaped), tables in three formats, figures in two, the records.

Each corpus of the records has pages, tables and figures of its own: in the site itself if it is the only one, else in a
folder that the first page leads to, and with the other corpora in the navigation.

`PAGES` lists the pages. A new page is an entry there; a new part is a module, a template and its name in a page.
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
from reports.pages import Section, answer, claims, corpora, downloads, method, reliability
from reports.pages.ablations import (
    compression,
    forest,
    judgements,
    learning,
    parts,
    presets,
    sparsity,
    yardsticks,
    zero_shot,
)
from reports.pages.ablations import table as ablations
from reports.pages.efficiency import efficiency, explorer, iso_recall
from reports.pages.inside import failures, retrieved, words
from reports.pages.scale import claim as scale
from reports.pages.scale import engines as scale_engines
from reports.pages.scale import growth as scale_growth
from reports.pages.scale import shards as scale_shards
from reports.pages.scale import steps as scale_steps
from reports.records.evidence import Evidence
from reports.render import plots, tables
from reports.render.figures import DARK
from reports.render.tables import clean

SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.js", "plots.js")
STATIC = (*SCRIPTS, "LICENSES.md")


@dataclass(frozen=True)
class Page:
    """`parts`: modules of `reports.pages`. `lead`: line under the title. `empty`: command that fills an empty page."""

    name: str
    title: str
    lead: str
    parts: tuple[ModuleType, ...]
    empty: str = "python -m ablations.run"


PAGES = (
    Page("index", "Answer", "Which retrieves better, which costs less, and which parts of LexLIP matter?", (answer,)),
    Page(
        "efficacy",
        "Quality and cost",
        "Recall against speed, index size and build time.",
        (explorer, iso_recall, scale_engines, efficiency, compression),
    ),
    Page("claim", "The claim", "Published speed and size beside the measured values.", (scale, claims)),
    Page(
        "ablations",
        "Ablations",
        "Quality and cost of each part of LexLIP.",
        (forest, ablations, yardsticks, zero_shot, judgements, sparsity, learning, presets, parts),
    ),
    Page(
        "scale",
        "Scale",
        "Speed, size and quality as the gallery grows.",
        (scale_growth, scale_shards, scale_steps),
        "python -m bench.scale --corpus 1M",
    ),
    Page(
        "look",
        "Look inside",
        "Images as words, results of the models, and the largest disagreements.",
        (words, retrieved, failures),
    ),
    Page("reliability", "Reliability", "Broken input, injected faults and sustained load.", (reliability,)),
    Page(
        "method",
        "Method and reproduction",
        "Protocol, machines, definitions, and the command behind each number.",
        (method, downloads),
    ),
)
FIRST = PAGES[0]


def write(evidence: Evidence, out: Path) -> Path:
    """Writes the site atomically to `out`, replacing it; returns its first page."""
    found = evidence.by_corpus()
    with atomic_folder(out) as partial:
        (partial / "static").mkdir()
        for name in STATIC:
            shutil.copyfile(str(resources.files("reports.render").joinpath("static", name)), partial / "static" / name)
        files = downloads.write(evidence, partial / downloads.FOLDER)
        if len(found) == 1:
            write_pages(evidence, partial, files=files)
        else:
            folders = corpora.folders([one.corpus for one in found])
            shared = {"files": files, "root": "../", "switch": list(zip(folders, found, strict=True))}
            made = [write_pages(one, partial / folder, **shared) for folder, one in shared["switch"]]
            nothing = dict.fromkeys(("sections", "figures", "scripts", "switch"), ())
            html = _rendered("corpora.html", evidence, page=FIRST, pages=PAGES, root="", corpora=made, **nothing)
            (partial / "index.html").write_text(html, encoding="utf-8")
    return Path(out) / "index.html"


def write_pages(evidence: Evidence, folder: Path, **shared) -> corpora.OfCorpus:
    """Writes the pages, tables and figures of a corpus; returns what the first page says of it."""
    made = {page.name: [section for part in page.parts if (section := part.section(evidence))] for page in PAGES}
    everything = [section for sections in made.values() for section in sections]
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True)
    for section in everything:
        write_files(section, folder)
    shared |= {"all_tables": [table for section in everything for table in section.tables], "places": places(made)}
    for page in PAGES:
        html = render(evidence, page, made[page.name], **shared)
        (folder / f"{page.name}.html").write_text(html, encoding="utf-8")
    size = corpora.gallery(evidence)
    return corpora.OfCorpus(evidence, folder.name, *size, made[FIRST.name][0].data, shared["places"])


def places(made: dict[str, list[Section]]) -> dict[str, str]:
    """Section -> its page and anchor; the page only for a section without content."""
    absent = {part.__name__.rpartition(".")[2]: f"{page.name}.html" for page in PAGES for part in page.parts}
    return absent | {
        section.name: f"{name}.html#{section.name}" for name, sections in made.items() for section in sections
    }


def write_files(section: Section, folder: Path) -> None:
    """Writes the tables of a section as CSV, Markdown and LaTeX, and its figures as SVG and PNG."""
    for table in section.tables:
        for suffix, text in (("csv", table.to_csv()), ("md", table.to_markdown()), ("tex", table.to_latex())):
            (folder / "tables" / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    for figure in section.figures:
        (folder / "figures" / f"{figure.name}.svg").write_bytes(figure.svg)
        (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)


def render(evidence: Evidence, page: Page, sections: list[Section], root: str = "", switch=(), **shared) -> str:
    """HTML of a page. Only pages with figures may run scripts, and only those of the site."""
    values = {
        "page": page,
        "pages": PAGES,
        "root": root,
        "switch": switch,
        "sections": sections,
        "scripts": SCRIPTS if any(section.figures for section in sections) else (),
        "tables": {table.name: table for section in sections for table in section.tables},
        "figures": {figure.name: figure for section in sections for figure in section.figures},
    }
    return _rendered("page.html", evidence, **values, **shared)


def _rendered(template: str, evidence: Evidence, **values) -> str:
    style = _style()
    values["style"] = Markup(style)  # the policy names it by its hash: no other style applies
    values["style_hash"] = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _environment().get_template(template).render(evidence=evidence, **values)


@functools.cache
def _style() -> str:
    return resources.files("reports.render").joinpath("templates/style.css").read_text(encoding="utf-8")


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
        "plot_of": plots.of_figure,
        "packed": plots.packed,
        "dark": DARK,
        "size": tables.size,
    }
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": True, "sort_keys": False}
    return made
