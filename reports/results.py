"""Writes docs/results.md and the answer and table of README.md from the reference records: `lexlip-bench results`.

docs/results.md holds the tables and charts of the site; charts are written beside the records. In README.md the text
between the markers is replaced. A test holds both to the records.
"""

import re
from pathlib import Path

from bench.store import cli
from models.errors import InputError
from models.files import atomic_file
from reports.findings import answer
from reports.records.evidence import Evidence, Reading

ROOT = Path(__file__).resolve().parent.parent
MARKERS = {name: (f"<!-- {name} -->", f"<!-- /{name} -->") for name in ("answer", "results")}
SKIPPED = ("explore", "metrics", "commands", "versions", "fronts_")  # starts of names: long lists, which the site holds
SKIPPED_PAGES = ("look",)
HEAD = """# Results of the reference run

Made by `lexlip-bench results` from the records in `results/reference/`; a test holds this page to them. The site has
every search, filters and images: `nox -s reference`.
"""


def document(evidence: Evidence, figures: str) -> tuple[str, dict[str, str]]:
    """Markdown of the tables and charts, and the SVG of each chart by name. figures: their folder, as in links."""
    from reports.pages.site import PAGES

    parts, drawn = [HEAD], {}
    for page in (page for page in PAGES if page.name not in SKIPPED_PAGES):
        parts.append(f"## {page.title}\n")
        for section in page.module.sections(evidence):
            tables = [table for table in section.all_tables if table.rows and not table.name.startswith(SKIPPED)]
            if section.name == "answer":
                parts.append(readme_answer(evidence))
            elif tables or section.charts:
                parts.append(f"### {section.title}\n")
            for chart in section.charts if section.name != "explore" else section.charts[:1]:
                drawn[chart.name] = chart.file()
                parts.append(f"**{chart.title}.** {chart.subtitle}\n\n![{chart.title}]({figures}/{chart.name}.svg)\n")
            parts += [table.to_markdown() for table in tables]
    return "\n".join(parts), drawn


def readme_answer(evidence: Evidence) -> str:
    """The sentences of the first page."""
    found = answer.sentences(evidence)
    return "".join(f"- **{one.template.partition(' ')[0].capitalize()}**: {one.text}\n" for one in found)


def readme_table(evidence: Evidence) -> str:
    """The table of the first page."""
    from reports.pages.answer import rows

    return rows(evidence).to_markdown()


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
    from reports.records.bundle import PROFILE, open_records

    text = readme.read_text(encoding="utf-8")
    for start, stop in MARKERS.values():
        if not re.search(f"{start}.*{stop}", text, re.DOTALL):
            raise InputError(f"{readme}: expected the markers {start} and {stop}")
    evidence = Evidence(open_records(reference), Reading(profile=PROFILE))
    text = filled(text, {"answer": readme_answer(evidence), "results": readme_table(evidence)})
    made, figures = document(evidence, f"../{reference.parent.name}/{reference.name}")
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
