"""Recall before and after pruning and quantisation: float vectors, pruned vectors, impacts of the index."""

from reports.findings import comparisons
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.figures import COLOURS, MUTED, Figure, Panel, Series, draw
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, points, significant, size

METRICS = {"recall@1": "R@1", "recall@10": "R@10"}
STAGES = {"whole": "un-pruned float", "pruned": "pruned float", "impacts": "pruned, {bits}-bit impacts"}
STEPS = (("pruning", "pruned", "whole"), ("quantisation", "impacts", "pruned"))  # (step, after, before)
LOOKS = {
    "whole": {"colour": MUTED, "marker": "s", "dashes": "--"},
    "pruned": {"colour": COLOURS[2], "marker": "D", "filled": False},
    "impacts": {"colour": COLOURS[0], "marker": "o"},
}


def section(evidence: Evidence) -> Section:
    made = table(evidence)
    figures = [figure(evidence, made)] if _pruned(made) else []
    return Section("compression", "Loss by pruning and quantisation", [made], figures, folder="ablations")


def stages(evidence: Evidence, top_k: float | None) -> dict[str, dict]:
    """Stage -> filters."""
    r, base = evidence.reading, evidence.retrieval()
    return {
        "whole": base | evidence.brute_force(r.reference),
        "pruned": base | {"engine": r.lexicon_brute_force, "top_k": top_k, "bits": None},
        "impacts": base | {"engine": r.lexicon_engine, "top_k": top_k, "bits": r.bits},
    }


def top_ks(evidence: Evidence) -> list[float | None]:
    """Every top_k that the reference was measured at, ascending; None (all lexicons) last, if quantised."""
    rows = evidence.matching(evidence.reading.reference, "recall@1", **evidence.retrieval())
    whole = rows[rows.top_k.isna() & (rows.bits == evidence.reading.bits)]
    return [*sorted(set(rows.top_k.dropna())), *([] if whole.empty else [None])]


def table(evidence: Evidence) -> Table:
    """One row for each top_k."""
    r = evidence.reading
    columns = [Column("top_k", "Top-k lexicons per image", integer)]
    for metric, label in METRICS.items():
        for stage, name in STAGES.items():
            columns.append(Column(f"{stage} {metric}", name.format(bits=r.bits), percent, f"{label}, %"))
        for step, *_ in STEPS:
            columns.append(Column(f"{step} {metric}", f"by {step}", points, f"{label}: change, points"))
    columns += [
        Column("lexicons", "active per image", significant, "Index"),
        Column("bytes", "bytes per image", size, "Index"),
    ]
    rows = [_row(evidence, top_k) for top_k in top_ks(evidence)]
    caption = f"{r.reference}, text to image: recall before and after pruning and quantisation"
    return Table("compression", caption, tuple(columns), rows)


def _row(evidence: Evidence, top_k: float | None) -> dict[str, Cell]:
    name, at = evidence.reading.reference, stages(evidence, top_k)
    cells = {"top_k": Cell("all" if top_k is None else top_k)}
    for metric in METRICS:
        cells |= {f"{stage} {metric}": evidence.cell(name, metric, **filters) for stage, filters in at.items()}
        for step, after, before in STEPS:
            estimate, behind = comparisons.difference(evidence, (name, at[after]), (name, at[before]), metric)
            cells[f"{step} {metric}"] = comparisons.estimate_cell(estimate, behind, NOT_MEASURED)
    cells["lexicons"] = evidence.cell(name, "active_lexicons_image", **at["impacts"])
    cells["bytes"] = evidence.cell(name, "bytes_per_image", **(at["impacts"] | {"task": ("retrieval", "index")}))
    return cells


def _pruned(made: Table) -> list[dict[str, Cell]]:
    """Rows that have a place on an axis of top_k."""
    return [row for row in made.rows if row["top_k"].value != "all"]


def figure(evidence: Evidence, made: Table) -> Figure:
    """R@1 and R@10 of each stage against top_k."""
    rows, bits = _pruned(made), evidence.reading.bits
    panels = []
    for metric, label in METRICS.items():
        series = []
        for stage, look in LOOKS.items():
            found = [(row["top_k"].value, cell) for row in rows if not (cell := row[f"{stage} {metric}"]).missing]
            bounds = [
                None if cell.low is None or stage != "impacts" else (100 * cell.low, 100 * cell.high)
                for _, cell in found
            ]
            if found:
                x, y = [top_k for top_k, _ in found], [100 * cell.value for _, cell in found]
                series.append(Series(STAGES[stage].format(bits=bits), x, y, bounds=bounds, **look))
        ticks = tuple(row["top_k"].value for row in rows)
        axes = ("top-k lexicons per image (log scale)", f"{label}, %")
        panels.append(Panel(f"{label}, text to image", *axes, series, log_x=True, ticks=ticks))
    r1 = [f"{percent(cell.value)} % at top-{row['top_k'].value:.0f}" for row in rows
          if not (cell := row["impacts recall@1"]).missing]  # fmt: skip
    alt = f"R@1 of the quantised index of {evidence.reading.reference}: {'; '.join(r1) or NOT_MEASURED}."
    caption = "Recall against top-k lexicons. Bars: 95% intervals of the quantised index. Dashed: un-pruned vectors."
    return draw("compression", caption, alt, panels)
