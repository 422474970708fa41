"""Puts the tables and the figures of the reference run into the README: `lexlip-bench results`.

What stands between the marks is made from `results/reference/` and nothing else; a test holds the README to it.
"""

import re
from pathlib import Path

from bench.store import cli
from models.errors import InputError
from models.files import atomic_file
from reports.findings.scale_answer import findings, verdicts
from reports.findings.scale_ratios import comparisons
from reports.pages import answer
from reports.pages.ablations import forest
from reports.pages.ablations import table as ablations
from reports.pages.efficiency import efficiency
from reports.pages.scale import answer as scale
from reports.pages.scale import engines as scale_engines
from reports.pages.scale import growth as scale_growth
from reports.records.bundle import PROFILE, open_records
from reports.records.evidence import Evidence, Reading
from reports.records.scale import sweeps
from reports.render.figures import Figure

ROOT = Path(__file__).resolve().parent.parent
MARKED = r"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
TABLES = ("ablations_text_to_image", "ablations_cost")
SCALE_TABLES = ("scale_claim", "scale_size")
NOT_MEASURED = "Not measured yet.\n"


def quick(evidence: Evidence) -> tuple[str, list[Figure]]:
    """The ablations: what of them is significant, then the tables; Markdown, and the figures it shows."""
    tables = {table.name: table for table in ablations.section(evidence).tables}
    pictures = {
        "What each variant differs from the reference by, in points of R@1 and R@10": forest.section(evidence).figures,
        "R@1 against queries per second and bytes per picture": efficiency.section(evidence).figures,
    }
    shown = [_shown(alt, figure) for alt, figures in pictures.items() for figure in figures]
    said = "".join(f"- {sentence}\n" for sentence in answer.ablation_sentences(evidence))
    return "\n".join([said, *(tables[name].to_markdown() for name in TABLES), *shown]), [
        one for figures in pictures.values() for one in figures
    ]


def at_scale(evidence: Evidence) -> tuple[str, list[Figure]]:
    """The claim against the measurement of the first sweep, losses first; Markdown, and the figures it shows."""
    sweep = next((sweep for sweep in sweeps(evidence) if sweep.judged), None)
    made = scale_engines.section(evidence)
    if not sweep or not made:
        return NOT_MEASURED, []
    rows = comparisons(sweep)
    said = [f"- **{finding.what}** ({finding.verdict}): {finding.sentence}" for finding in findings(sweep, rows)]
    said += [f"- {sentence}" for sentence in verdicts(sweep, rows)]
    tables = {table.name: table for table in scale.section(evidence).tables}
    shown = [tables[sweep.named(name)].to_markdown() for name in SCALE_TABLES]
    figures = [figure for figure in made.figures if figure.name == sweep.named("scale_efficacy")]
    pictures = [_shown(f"R@1 against queries per second over {sweep.largest:,} images", figure) for figure in figures]
    beyond = []
    for one in sweeps(evidence):
        if one.fitted_to == sweep.corpus and one.largest > sweep.largest:
            beside = scale_growth.twin_table(one, scale_growth.encoded_twin(one, evidence))
            beyond += [scale_growth.growth_table(one).to_markdown(), f"{' '.join(beside.notes)}\n"]
    return "\n".join(["\n".join(said) + "\n", *shown, *pictures, *beyond]), figures


BLOCKS = {"quick": quick, "scale": at_scale}


def _shown(alt: str, figure: Figure) -> str:
    return f"![{alt}](results/reference/{figure.name}.png)\n"


def write(reference: Path, readme: Path) -> None:
    """Replace what stands between the marks, and draw the figures beside the records. Raises InputError when marks are missing."""
    evidence, text = Evidence(open_records(reference), Reading(profile=PROFILE)), readme.read_text(encoding="utf-8")
    for name in BLOCKS:
        if not re.search(MARKED.format(name=name), text, re.DOTALL):
            raise InputError(f"{readme}: expected the marks <!-- {name} --> and <!-- /{name} -->")
    drawn = []
    for name, block in BLOCKS.items():
        made, figures = block(evidence)
        drawn += figures
        text = re.sub(
            MARKED.format(name=name), lambda marks, made=made: marks[1] + made + marks[2], text, flags=re.DOTALL
        )
    for figure in drawn:
        with atomic_file(reference / f"{figure.name}.png") as partial:
            partial.write_bytes(figure.png)
    with atomic_file(readme) as partial:
        partial.write_text(text, encoding="utf-8")


def main(arguments) -> None:
    write(arguments.reference, arguments.readme)


def parser():
    flags = cli.parser("Puts the tables and the figures of the reference run into the README.")
    flags.add_argument("--reference", type=Path, default=ROOT / "results" / "reference")
    flags.add_argument("--readme", type=Path, default=ROOT / "README.md")
    return flags
