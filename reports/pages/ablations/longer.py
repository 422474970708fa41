"""The same models trained for longer: every model beside itself, and the learning curves in one frame."""

from reports.findings import comparisons
from reports.findings.convergence import curve, late_gain
from reports.pages import Section
from reports.pages.ablations.curves import VALIDATION, validation
from reports.pages.ablations.measures import LEXICONS_OF, T2I, row, word_columns
from reports.records.evidence import Evidence
from reports.render.charts import Axis, Chart, Panel, Series
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
    columns = (
        Column("variant", "Model"), Column("profile", "Profile"), Column("steps", "Steps", integer),
        Column("seeds", "Seeds", integer),
        *(Column(f"recall@{k} {T2I}", f"R@{k}", percent, "Text to image, %") for k in (1, 10)),
        Column("difference recall@1", f"R@1 minus {evidence.reading.reference}, points", points),
        *word_columns(evidence),
        Column("last", f"R@1 gained in the last {LAST:.0%}, points", points, "Training"),
        Column("train_cpu_seconds", "CPU s", significant, "Training"),
    )  # fmt: skip
    trained = {name for one in evidence.longer for name in one.variants}
    names = [name for name in evidence.variants if name in trained]
    names += sorted(trained - set(names))
    reports = [evidence, *evidence.longer]
    rows = [_row(one, name) for name in names for one in reports if name in one.variants]
    notes = (
        "Each profile is compared with its own reference. The gain is of validation R@1, on un-pruned vectors. "
        f"{comparisons.NOTE}",
    )
    return Table("longer", "The same models, trained for longer", columns, rows, notes).measured(LEXICONS_OF)


def _row(evidence: Evidence, variant: str) -> dict[str, Cell]:
    steps = evidence.cell(variant, "steps", task="training", step=None)
    learned = curve(evidence, variant, "recall@1", "val")
    last = {"last": Cell(late_gain(*learned, LAST))} if len(learned[0]) > 1 else {}
    return row(evidence, variant) | {"profile": Cell(evidence.profile), "steps": steps} | last


def chart(evidence: Evidence) -> Chart | None:
    """Validation R@1 by step, the longer trainings filled and those of the report hollow."""
    r, reports = evidence.reading, [evidence, *evidence.longer]
    drawn = [
        (name, one, Series(f"{name}, {one.profile}", marks, colour, "all", hollow=one is evidence))
        for colour, name in enumerate((r.reference, r.baseline, r.words))
        for one in reports
        if (marks := validation(one, name))
    ]
    ends = {name: series.marks[-1].y for name, one, series in drawn if one is reports[-1]}
    if not ends:
        return None
    title = f"After {integer(reports[-1].steps)} steps: "
    title += ", ".join(f"{name} {significant(ends[name])} %" for name in sorted(ends, key=ends.get, reverse=True))
    alt = "; ".join(f"{series.name}, ends at {significant(series.marks[-1].y)} %" for _, _, series in drawn)
    panel = Panel("", Axis("optimiser step", log=True), Axis("validation R@1, %"), tuple(one for *_, one in drawn))
    return Chart("longer", title, VALIDATION, evidence.corpus, alt, (panel,), 1)
