"""What pruning and quantising cost: brute force on un-pruned vectors, then pruned, then pruned 8-bit impacts from the index."""

from reports.findings import comparisons
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.figures import COLOURS, MUTED, Panel, Series, draw
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, points, significant, size

METRICS = {"recall@1": "R@1", "recall@10": "R@10"}
STAGES = {"whole": "un-pruned float", "pruned": "pruned float", "impacts": "pruned, {bits}-bit impacts"}


def section(evidence: Evidence) -> Section:
    made = table(evidence)
    return Section(
        "compression",
        "What pruning and quantising cost",
        tables=[made],
        figures=[figure(evidence, made)] if _pruned(made) else [],
    )


def stages(evidence: Evidence, top_k: float | None) -> dict[str, dict]:
    """Stage -> filters."""
    r, base = evidence.reading, evidence.retrieval()
    return {
        "whole": base | evidence.brute_force(r.reference),
        "pruned": base | {"engine": r.lexicon_brute_force, "top_k": top_k, "bits": None},
        "impacts": base | {"engine": r.lexicon_engine, "top_k": top_k, "bits": r.bits},
    }


def kept_values(evidence: Evidence) -> list[float | None]:
    """Every number of lexicons kept that the reference was measured at, ascending; None (all) last, where all were quantised."""
    rows = evidence.matching(evidence.reading.reference, "recall@1", **evidence.retrieval())
    whole = rows[rows.top_k.isna() & (rows.bits == evidence.reading.bits)]
    return [*sorted(set(rows.top_k.dropna())), *([] if whole.empty else [None])]


def table(evidence: Evidence) -> Table:
    r = evidence.reading
    columns = [Column("top_k", "Lexicons kept per image", integer)]
    for metric, label in METRICS.items():
        columns += [
            Column(f"{stage} {metric}", name.format(bits=r.bits), percent, f"{label}, %")
            for stage, name in STAGES.items()
        ]
        columns += [
            Column(f"{cost} {metric}", f"by {cost}", points, f"{label}: change, points")
            for cost in ("pruning", "quantising")
        ]
    columns += [
        Column("lexicons", "active per image", significant, "Index"),
        Column("bytes", "bytes per image", size, "Index"),
    ]
    return Table(
        "compression",
        f"{r.reference}, text to image: recall before and after pruning and quantising",
        tuple(columns),
        [_row(evidence, top_k) for top_k in kept_values(evidence)],
    )


def _row(evidence: Evidence, top_k: float | None) -> dict[str, Cell]:
    name, at = evidence.reading.reference, stages(evidence, top_k)
    cells = {"top_k": Cell("all" if top_k is None else top_k)}
    for metric in METRICS:
        cells |= {f"{stage} {metric}": evidence.cell(name, metric, **filters) for stage, filters in at.items()}
        for cost, after, before in (("pruning", "pruned", "whole"), ("quantising", "impacts", "pruned")):
            estimate, behind = comparisons.difference(evidence, (name, at[after]), (name, at[before]), metric)
            cells[f"{cost} {metric}"] = comparisons.estimate_cell(estimate, behind, NOT_MEASURED)
    cells["lexicons"] = evidence.cell(name, "active_lexicons_image", **at["impacts"])
    cells["bytes"] = evidence.cell(name, "bytes_per_image", **(at["impacts"] | {"task": ("retrieval", "index")}))
    return cells


def _pruned(made: Table) -> list[dict[str, Cell]]:
    """The rows that have a place on an axis of lexicons kept."""
    return [row for row in made.rows if row["top_k"].value != "all"]


def figure(evidence: Evidence, made: Table):
    looks = {
        "whole": {"colour": MUTED, "marker": "s", "dashes": "--"},
        "pruned": {"colour": COLOURS[2], "marker": "D", "filled": False},
        "impacts": {"colour": COLOURS[0], "marker": "o"},
    }
    panels = []
    for metric, label in METRICS.items():
        series = []
        for stage, look in looks.items():
            found = [
                (row["top_k"].value, cell) for row in _pruned(made) if not (cell := row[f"{stage} {metric}"]).missing
            ]
            if found:
                series.append(
                    Series(
                        STAGES[stage].format(bits=evidence.reading.bits),
                        [top_k for top_k, _ in found],
                        [100 * cell.value for _, cell in found],
                        bounds=[
                            None if cell.low is None or stage != "impacts" else (100 * cell.low, 100 * cell.high)
                            for _, cell in found
                        ],
                        **look,
                    )
                )
        panels.append(
            Panel(
                f"{label}, text to image",
                "lexicons kept per image (log scale)",
                f"{label}, %",
                series,
                log_x=True,
                ticks=tuple(row["top_k"].value for row in _pruned(made)),
            )
        )
    r1 = [(int(row["top_k"].value), cell) for row in _pruned(made) if not (cell := row["impacts recall@1"]).missing]
    alt = f"{evidence.reading.reference}: R@1 and R@10 against the number of lexicons kept per image. " + (
        "R@1 of the quantised index: "
        + "; ".join(f"{percent(cell.value)} % with {top_k} kept" for top_k, cell in r1)
        + "."
        if r1
        else "No quantised index measured."
    )
    return draw(
        "compression",
        "Recall against lexicons kept. Bars: 95% intervals of the quantised index. The dashed line is brute force on un-pruned vectors.",
        alt,
        panels,
    )
