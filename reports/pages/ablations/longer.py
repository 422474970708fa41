"""The same models trained for longer: every model beside itself, and the learning curves in one frame."""

from reports.findings import comparisons
from reports.findings.convergence import curve, late_gain
from reports.pages import Section
from reports.pages.ablations.words import LEXICONS_OF, word_columns, words_of
from reports.records.evidence import Evidence
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import Cell, Column, Table, integer, percent, points, significant

LAST = 0.1  # share of a training whose gain says whether it had converged


def sections(evidence: Evidence) -> list[Section]:
    """None unless another profile trained on the corpus for more steps."""
    if not evidence.longer:
        return []
    text = "Short training may favour the model that learns faster. These are the same models, trained for more steps."
    drawn = chart(evidence)
    return [Section("longer", "Trained for longer", (text,), [drawn] if drawn else [], [table(evidence)])]


def table(evidence: Evidence) -> Table:
    """A row for each model of the longer profiles, below the same model of the report."""
    r = evidence.reading
    columns = (
        Column("variant", "Model"), Column("profile", "Profile"), Column("steps", "Steps", integer),
        Column("seeds", "Seeds", integer),
        *(Column(f"recall@{k}", f"R@{k}", percent, "Text to image, %") for k in (1, 10)),
        Column("difference", f"R@1 minus {r.reference}, points", points), *word_columns(evidence),
        Column("gain", f"R@1 gained in the last {LAST:.0%}, points", points, "Training"),
        Column("cpu", "CPU s", significant, "Training"),
    )  # fmt: skip
    reports = [evidence, *evidence.longer]
    trained = {name for one in evidence.longer for name in one.variants}
    names = [name for name in dict.fromkeys(name for one in reports for name in one.variants) if name in trained]
    rows = [_row(one, name) for name in names for one in reports if name in one.variants]
    notes = (
        "Each profile is compared with its own reference. The gain is of validation R@1, on un-pruned vectors. "
        f"{comparisons.NOTE}",
    )
    return Table("longer", "The same models, trained for longer", columns, rows, notes).measured(LEXICONS_OF)


def _row(evidence: Evidence, variant: str) -> dict[str, Cell]:
    at = evidence.retrieval() | evidence.operating_point(variant)
    cells = {
        "variant": Cell(variant), "profile": Cell(evidence.profile), "seeds": Cell(len(evidence.seeds(variant))),
        "steps": evidence.cell(variant, "steps", task="training", step=None),
        "difference": comparisons.difference_cell(evidence, variant, "recall@1"),
        "cpu": evidence.cell(variant, "train_cpu_seconds", task="training", step=None),
    }  # fmt: skip
    cells |= {f"recall@{k}": evidence.cell(variant, f"recall@{k}", **at) for k in (1, 10)}
    steps, values = curve(evidence, variant, "recall@1", "val")
    if len(steps) > 1:
        cells["gain"] = Cell(late_gain(steps, values, LAST))
    return cells | words_of(evidence, variant)


def chart(evidence: Evidence) -> Chart | None:
    """Validation R@1 by step, the longer trainings filled and those of the report hollow."""
    r, series, said = evidence.reading, [], []
    for place, name in enumerate((r.reference, r.baseline, r.words)):
        for one in (evidence, *evidence.longer):
            steps, values = curve(one, name, "recall@1", "val")
            if not len(steps):
                continue
            tips = (f"{name}, {one.profile}\nstep {step:,.0f}: R@1 {percent(value)} %"
                    for step, value in zip(steps, values, strict=True))  # fmt: skip
            marks = tuple(Mark(x, 100 * y, tip) for x, y, tip in zip(steps, values, tips, strict=True))
            series.append(Series(f"{name}, {one.profile}", marks, place, "all", hollow=one is evidence))
            said.append((name, one, values[-1]))
    if not any(one is not evidence for _, one, _ in said):
        return None
    longest = evidence.longer[-1]
    ends = sorted(((value, name) for name, one, value in said if one is longest), reverse=True)
    title = "At the end of the longest: " + ", ".join(f"{name} {percent(value)} %" for value, name in ends)
    panel = Panel("", Axis("optimiser step", log=True), Axis("validation R@1, %"), tuple(series))
    alt = "; ".join(f"{name}, {one.profile}, ends at {percent(value)} %" for name, one, value in said)
    return Chart(
        "longer", title, "Validation R@1, text to image, by brute force on un-pruned vectors; mean over seeds.",
        evidence.corpus, alt, (panel,), 1,
    )  # fmt: skip
