"""Writes docs/results.md and the answer and table of README.md from the reference records: `lexlip-bench results`.

docs/results.md holds the tables and figures of the site; figures are written beside the records. In README.md the text
between the markers is replaced. A test holds both to the records.
"""

import re
from pathlib import Path

from bench.store import cli
from models.errors import InputError
from models.files import atomic_file
from reports.findings import answer, comparisons, verdict
from reports.records.evidence import Evidence, Reading
from reports.render.tables import Cell, Column, Table, percent, points, size

ROOT = Path(__file__).resolve().parent.parent
MARKERS = {name: (f"<!-- {name} -->", f"<!-- /{name} -->") for name in ("answer", "results")}
NAMED = ("no_bottleneck", "strong_decoder", "no_momentum")  # the ablations that the paper's claim rests on
CORE = ("lexlip", "clip", "no_bottleneck", "strong_decoder", "no_momentum")
# Tables of the site that are left out: unions of others, and long lists.
SKIPPED = ("ablations", "sparsity", "efficiency_all", "metrics", "commands", "versions")
SKIPPED_PAGES = ("look",)
HEAD = """# Results of the reference run

Made by `lexlip-bench results` from the records in `results/reference/`; a test holds this page to them. The site has
the same numbers with interactive plots: `nox -s reference`.
"""


def document(evidence: Evidence, figures: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of all tables and figures, and the PNG of each figure by name. figures: their folder, as in links."""
    from reports.pages.site import PAGES

    parts, drawn = [HEAD], {}
    for page in (page for page in PAGES if page.name not in SKIPPED_PAGES):
        sections = [section for part in page.parts if (section := part.section(evidence))]
        parts.append(f"## {page.title}\n")
        for section in sections:
            tables = [table for table in section.tables if _is_shown(table.name, section.data) and table.rows]
            if tables or section.figures:
                parts.append(f"### {section.title}\n")
            for figure in section.figures:
                drawn[figure.name] = figure.png
                parts.append(f"![{figure.caption}]({figures}/{figure.name}.png)\n")
            parts += [table.to_markdown() for table in tables]
    return "\n".join(parts), drawn


def _is_shown(name: str, data: dict) -> bool:
    smaller = [other for sweep in data.get("sweeps", ()) for other in sweep.get("others", ())]
    return name not in (*SKIPPED, *smaller) and not name.startswith("scale_vectors")


def readme_table(evidence: Evidence) -> Table:
    """Recall, difference to the reference and index size of the core variants."""
    from reports.pages.ablations import table as ablations

    recall = "Text to image, %"
    columns = (
        Column("variant", "Variant"),
        *(Column(f"recall@{k} text_to_image", f"R@{k}", percent, recall) for k in (1, 5, 10)),
        *ablations.word_columns(evidence.reading),
        Column("difference recall@1", f"R@1 minus {evidence.reading.reference}, points", points),
        Column("bytes", "Index per image", size),
    )
    rows = [ablations.row(evidence, name) if name in evidence.variants else {"variant": Cell(name)} for name in CORE]
    notes = (
        "Composed scenes, 1,000 test images, three seeds, 95% intervals; "
        f"{comparisons.SIGNIFICANT} significant after Holm's correction.",
    )
    return Table("results", "Reference run, profile quick", columns, rows, notes).measured(ablations.WORDS)


def readme_answer(evidence: Evidence) -> str:
    """Three fixed sentences: speed and size, quality, what the named ablations show. A missing number says so."""
    found: dict[str, answer.Finding] = {}
    for one in answer.findings(evidence):
        found.setdefault(one.what, one)

    def both(what: str, of: str = "", missing: str = "not measured") -> str:
        one = found.get(what)
        if one is None:
            return missing
        sides = [f"{cell.format(cell.value)}{of}" for cell in (one.baseline, one.reference)]
        return f"{r.baseline} {sides[0]}, {r.reference} {sides[1]}"

    r, tests = evidence.reading, comparisons.tests(evidence)
    quality = answer.RECALLS[0][0]
    over = found[answer.BEST].over if answer.BEST in found else "a large gallery"
    differs = [name for name in NAMED if (test := tests.get((name, "recall@1"))) and test.significant]
    others = [name for name in NAMED if name not in differs]
    differ = "none of the named ablations" if not differs else _listed(differs)
    same = f"; that of {_listed(others)} does not" if differs and others else ""
    too_low = f"not compared, {verdict.TOO_LOW}"
    lines = (
        f"**Speed and size at equal R@1**, {over}, the best engine of each side, one query at a time: "
        f"{both(answer.SPEED, ' queries/s', too_low)}; bytes per image: {both(answer.SIZE)}. "
        f"R@1 is low there, at best {both(answer.BEST, ' %')}.",
        f"**Quality**, 1,000 images: R@1 {both(quality, ' %')}; hard negatives {both(answer.HARD_NEGATIVES, ' %')}.",
        f"**What makes it work**: over three seeds, R@1 of {differ} differs significantly from {r.reference}{same}. "
        f"{_on_words(evidence)}",
    )
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _on_words(evidence: Evidence) -> str:
    """The words of an image of the reference at the operating point; where not measured, of the un-pruned image."""
    from reports.pages.ablations import table as ablations

    weight, strongest, typed = ablations.word_cells(evidence, evidence.reading.reference).values()
    whole = evidence.cell(
        evidence.reading.reference, "caption_precision_weighted", task="sparsity", split="test", top_k=None
    )
    if weight.missing:
        return f"{_share(whole)} of an image's weight lies on words of its captions."
    return (
        f"With {evidence.reading.top_k} lexicons kept, {_share(weight)} of an image's weight lies on words of its "
        f"captions; the strongest is one for {_share(strongest)} of images. "
        f"Typed words alone reach R@10 {_share(typed)}."
    )


def _share(cell: Cell) -> str:
    return cell.missing or f"{percent(cell.value)} %"


def _listed(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def filled(text: str, parts: dict[str, str]) -> str:
    """A text with each part between the markers of its name."""
    for name, part in parts.items():
        start, stop = MARKERS[name]
        text = re.sub(f"{start}.*{stop}", lambda _, made=f"{start}\n{part}{stop}": made, text, flags=re.DOTALL)
    return text


def write(reference: Path, out: Path, readme: Path) -> None:
    """Writes the document, its figures beside the records, and the parts of the README between markers.

    Raises InputError for a README without the markers; nothing is then written.
    """
    from reports.records.bundle import PROFILE, open_records

    text = readme.read_text(encoding="utf-8")
    for start, stop in MARKERS.values():
        if not re.search(f"{start}.*{stop}", text, re.DOTALL):
            raise InputError(f"{readme}: expected the markers {start} and {stop}")
    evidence = Evidence(open_records(reference), Reading(profile=PROFILE))
    text = filled(text, {"answer": readme_answer(evidence), "results": readme_table(evidence).to_markdown()})
    made, figures = document(evidence, f"../{reference.parent.name}/{reference.name}")
    for name, png in figures.items():
        with atomic_file(reference / f"{name}.png") as partial:
            partial.write_bytes(png)
    for path, content in ((out, made), (readme, text)):
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
