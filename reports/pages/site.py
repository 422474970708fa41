"""From sections to files: pages through Jinja (everything escaped), tables in three formats, figures in two, the records as they are.

`PAGES` is the one list of pages: a new page is a line there; a new section is a file in `sections/`, a template and its name in a page.
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
from reports.pages import Section, answer, claims, cost, downloads, method, reliability
from reports.pages.ablations import compression, diagnostics, forest, learning, parts, presets, zero_shot
from reports.pages.ablations import table as ablations
from reports.pages.efficiency import efficiency, explorer, iso_recall
from reports.pages.inside import failures, retrieved
from reports.pages.scale import answer as scale
from reports.pages.scale import engines as scale_engines
from reports.pages.scale import growth as scale_growth
from reports.pages.scale import shards as scale_shards
from reports.pages.scale import steps as scale_steps
from reports.records.evidence import Evidence
from reports.render import plots, tables
from reports.render.figures import DARK
from reports.render.tables import clean

SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.js", "plots.js")
STATIC = (*SCRIPTS, cost.SCRIPT, "LICENSES.md")


@dataclass(frozen=True)
class Page:
    """`parts`: modules of `reports.pages`, in order; `lead` stands under the title; `empty` where no part has anything to say."""

    name: str
    title: str
    lead: str
    parts: tuple[ModuleType, ...]
    empty: str = "python -m ablations.run"


PAGES = (
    Page("index", "Answer", "Which retrieves better, which costs less, and which parts of LexLIP matter?", (answer,)),
    Page(
        "efficacy",
        "Efficacy against efficiency",
        "How good, against how fast, how large and how long to build. Find the cheapest search that is good enough.",
        (explorer, iso_recall, scale_engines, efficiency, compression),
    ),
    Page(
        "claim",
        "The claim",
        "What the paper says of its speed and size, in both versions, beside what was measured.",
        (scale, claims),
    ),
    Page(
        "ablations",
        "Ablations",
        "What each part of LexLIP is worth, and what it costs.",
        (forest, ablations, zero_shot, diagnostics, learning, presets, parts),
    ),
    Page(
        "scale",
        "Scale",
        "What happens to speed, size and quality as the gallery grows.",
        (scale_growth, scale_shards, scale_steps),
        "python -m bench.scale --corpus 1M",
    ),
    Page(
        "look",
        "Look inside",
        "What the models return, the lexicons that matched, and where they fail.",
        (retrieved, failures),
    ),
    Page(
        "cost",
        "Cost",
        "Machines, memory, disk and money per month for your number of images and queries, at your prices.",
        (cost,),
        "python -m bench.scale --corpus 1M",
    ),
    Page(
        "reliability",
        "Reliability",
        "What was done to break it, and what came of it: figures from records, with the commands that wrote them.",
        (reliability,),
    ),
    Page(
        "method",
        "Method and reproduction",
        "How it was measured, on what, and how to make each number again.",
        (method, downloads),
    ),
)


def write(evidence: Evidence, out: Path) -> Path:
    """Builds the whole site beside `out`, then puts it in place; returns the first page."""
    made = {page.name: [section for part in page.parts if (section := part.section(evidence))] for page in PAGES}
    everything = [section for sections in made.values() for section in sections]
    with atomic_folder(out) as partial:
        for folder in ("tables", "figures", "static"):
            (partial / folder).mkdir()
        for section in everything:
            write_files(section, partial)
        for name in STATIC:
            shutil.copyfile(str(resources.files("reports.render").joinpath("static", name)), partial / "static" / name)
        files = downloads.write(evidence, partial / downloads.FOLDER)
        shared = {
            "files": files,
            "all_tables": [table for section in everything for table in section.tables],
            "places": places(made),
        }
        for page in PAGES:
            (partial / f"{page.name}.html").write_text(
                render(evidence, page, made[page.name], **shared), encoding="utf-8"
            )
    return Path(out) / "index.html"


def places(made: dict[str, list[Section]]) -> dict[str, str]:
    """Section -> where it stands; one that has nothing to say, the page it would stand on."""
    absent = {part.__name__.rpartition(".")[2]: f"{page.name}.html" for page in PAGES for part in page.parts}
    return absent | {
        section.name: f"{name}.html#{section.name}" for name, sections in made.items() for section in sections
    }


def write_files(section: Section, folder: Path) -> None:
    """A section's tables as CSV, Markdown and LaTeX, its figures as SVG and PNG."""
    for table in section.tables:
        for suffix, text in (("csv", table.to_csv()), ("md", table.to_markdown()), ("tex", table.to_latex())):
            (folder / "tables" / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    for figure in section.figures:
        (folder / "figures" / f"{figure.name}.svg").write_bytes(figure.svg)
        (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)


def render(evidence: Evidence, page: Page, sections: list[Section], **shared) -> str:
    """One page. Only a page with figures may run scripts, and only those of the site."""
    style = _style()
    return (
        _environment()
        .get_template("page.html")
        .render(
            evidence=evidence,
            page=page,
            pages=PAGES,
            sections=sections,
            style=Markup(style),  # ours, and named by its hash in the policy: no other style can apply
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            scripts=scripts_of(sections),
            tables={table.name: table for section in sections for table in section.tables},
            figures={figure.name: figure for section in sections for figure in section.figures},
            **shared,
        )
    )


def scripts_of(sections: list[Section]) -> list[str]:
    """Files of `static/` that a page runs: those of plots where it has figures, and those that its sections name."""
    of_plots = SCRIPTS if any(section.figures for section in sections) else ()
    return [*of_plots, *dict.fromkeys(script for section in sections for script in section.scripts)]


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
