"""Writes docs/results.md and the answer and table of README.md from the reference records: `lexlip-bench results`.

docs/results.md holds the tables and charts of the site; charts are written beside the records. In README.md the text
between the markers is replaced. A test holds both to the records.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

from bench.store import cli
from models.errors import InputError
from models.files import atomic_file
from reports.findings import answer
from reports.pages import Section, corpora
from reports.pages.answer import rows
from reports.pages.site import PAGES
from reports.records.bundle import PROFILE, open_records
from reports.records.evidence import Evidence, Reading
from reports.render.charts import Chart

ROOT = Path(__file__).resolve().parent.parent
MARKERS = {name: (f"<!-- {name} -->", f"<!-- /{name} -->") for name in ("answer", "results")}
SKIPPED = ("explore", "metrics", "commands", "versions", "fronts_")  # starts of names: long lists, which the site holds
SKIPPED_PAGES = ("look",)
SHARED = ("reliability", "machines", "definitions")  # sections of the main corpus only: they say the same of the others
HEAD = """# Results of the reference run

Made by `lexlip-bench results` from the records in `results/reference/`; a test holds this page to them. The site has
every search, filters and images: `nox -s reference`.
"""


def corpora_of(reference: Path) -> list[Evidence]:
    """The report of each corpus of the reference records, the one with most of them first."""
    return corpora.main_first(Evidence(open_records(reference), Reading(profile=PROFILE)).by_corpus())


def document(found: list[Evidence], figures: str) -> tuple[str, dict[str, str]]:
    """Markdown of the tables and charts, and the SVG of each chart by name. figures: their folder, as in links."""
    parts, drawn = [HEAD], {}
    folders = corpora.folders([one.corpus for one in found])
    for place, (evidence, folder) in enumerate(zip(found, folders, strict=True)):
        parts += [f"# {evidence.corpus}\n"] if len(found) > 1 else []
        for page in (page for page in PAGES if page.name not in SKIPPED_PAGES):
            heading = len(parts)
            for section in page.module.sections(evidence):
                if not (place and section.name in SHARED):
                    charts = section.charts if section.name != "explore" else section.charts[:1]
                    charts = {f"{folder}_{chart.name}" if place else chart.name: chart for chart in charts}
                    drawn |= {name: chart.file() for name, chart in charts.items()}
                    parts += _section(evidence, section, charts, figures)
            if len(parts) > heading:
                parts.insert(heading, f"## {page.title}\n")
    return "\n".join(parts), drawn


def _section(evidence: Evidence, section: Section, charts: dict[str, Chart], figures: str) -> list[str]:
    """Markdown of a section; charts by the names of their files."""
    parts = []
    tables = [table for table in section.all_tables if table.rows and not table.name.startswith(SKIPPED)]
    if section.name == "answer":
        parts.append(answer_of(evidence))
    elif tables or charts:
        parts.append(f"### {section.title}\n")
    for name, chart in charts.items():
        parts.append(f"**{chart.title}.** {chart.subtitle}\n\n![{chart.title}]({figures}/{name}.svg)\n")
    return parts + [table.to_markdown() for table in tables]


def answer_of(evidence: Evidence) -> str:
    """The sentences of the first page of a corpus."""
    found = answer.sentences(evidence)
    return "".join(f"- **{one.template.partition(' ')[0].capitalize()}**: {one.text}\n" for one in found)


def readme_answer(found: list[Evidence]) -> str:
    """The sentences of the first page of each corpus."""
    if len(found) == 1:
        return answer_of(found[0])
    return "\n".join(f"**{one.corpus}**\n\n{answer_of(one)}" for one in found)


def readme_table(found: list[Evidence]) -> str:
    """The table of the first page of each corpus."""
    titled = [(one, rows(one)) for one in found]
    if len(found) > 1:
        titled = [(one, replace(table, caption=f"{table.caption}: {one.corpus}")) for one, table in titled]
    return "\n".join(table.to_markdown() for _, table in titled)


def filled(text: str, parts: dict[str, str]) -> str:
    """A text with each part between the markers of its name."""
    for name, part in parts.items():
        start, stop = MARKERS[name]
        text = re.sub(f"{start}.*{stop}", lambda _, made=f"{start}\n{part}{stop}": made, text, flags=re.DOTALL)
    return text


def write(reference: Path, out: Path, readme: Path) -> None:
    """Writes the document, its charts beside the records, and the parts of the README between markers.

    Raises InputError for a README without the markers; nothing is then written.
    """
    text = readme.read_text(encoding="utf-8")
    for start, stop in MARKERS.values():
        if not re.search(f"{start}.*{stop}", text, re.DOTALL):
            raise InputError(f"{readme}: expected the markers {start} and {stop}")
    found = corpora_of(reference)
    text = filled(text, {"answer": readme_answer(found), "results": readme_table(found)})
    made, figures = document(found, Path(os.path.relpath(reference, out.parent)).as_posix())
    drawn = [(reference / f"{name}.svg", svg) for name, svg in figures.items()]
    for path, content in (*drawn, (out, made), (readme, text)):
        with atomic_file(path) as partial:
            partial.write_text(content, encoding="utf-8")


def main(arguments) -> None:
    """`lexlip-bench results`"""
    write(arguments.reference, arguments.out, arguments.readme)


def parser():
    """Flags of `lexlip-bench results`."""
    flags = cli.parser("Writes docs/results.md, and the answer and table of README.md, from the reference records.")
    flags.add_argument("--reference", type=Path, default=ROOT / "results" / "reference", help="folder of the records")
    flags.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md", help="document to write")
    flags.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", help="file whose answer and table are replaced"
    )
    return flags
