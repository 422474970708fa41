"""Puts the table and the figure of the reference run into the README: `python -m reports.readme`.

What stands between the marks is made from `results/reference/` and nothing else; a test holds the README to it.
"""

import re
import sys
from pathlib import Path

from bench import cli
from bench.files import atomic_file
from models.errors import InputError
from reports.bundle import open_records
from reports.evidence import Evidence
from reports.sections import ablations, efficiency

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- quick -->\n).*?(<!-- /quick -->)", re.DOTALL)
FIGURE = "efficiency"
TABLES = ("ablations_text_to_image", "ablations_cost")


def block(evidence: Evidence) -> str:
    """The Markdown between the marks."""
    tables = {table.name: table for table in ablations.section(evidence).tables}
    parts = [tables[name].to_markdown() for name in TABLES]
    return "\n".join([*parts, f"![R@1 against queries per second and bytes per picture](results/reference/{FIGURE}.png)\n"])


def write(reference: Path, readme: Path) -> None:
    """Replace what stands between the marks, and draw the figure beside the records. Raises InputError when the marks are missing."""
    evidence = Evidence(open_records(reference))
    text, found = MARKED.subn(lambda marks: marks[1] + block(evidence) + marks[2], readme.read_text(encoding="utf-8"))
    if not found:
        raise InputError(f"{readme}: expected the marks <!-- quick --> and <!-- /quick -->")
    figure = next(figure for figure in efficiency.section(evidence).figures)
    with atomic_file(reference / f"{FIGURE}.png") as partial:
        partial.write_bytes(figure.png)
    with atomic_file(readme) as partial:
        partial.write_text(text, encoding="utf-8")


def main(arguments) -> None:
    write(arguments.reference, arguments.readme)


if __name__ == "__main__":
    flags = cli.parser("Puts the table and the figure of the reference run into the README.")
    flags.add_argument("--reference", type=Path, default=ROOT / "results" / "reference")
    flags.add_argument("--readme", type=Path, default=ROOT / "README.md")
    sys.exit(cli.run(main, flags))
