"""Sparsity diagnostics of every variant: how full and how skewed an index of its vectors would be, and whether its lexicons are words of the captions."""

from dataclasses import replace

from bench.tasks.metrics import METRICS
from reports.pages import Section, definitions
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent, significant

TASK = {"task": "sparsity", "split": "test", "top_k": None}
ACTIVE = ("mean", "p5", "p50", "p95")
VIEWS = {
    "diagnostics_index": (
        "How full and how skewed an index would be: all lexicons of the images, before pruning",
        {
            "Images": ("items", "empty_items"),
            "Vocabulary": ("dimension", "lexicons_used", "dead_lexicons", "always_on_lexicons", "lexicons_in_all"),
            "Posting lists": ("postings_gini", "postings_top_share"),
        },
    ),
    "diagnostics_lexicons": (
        "How many lexicons are active, and whether they are words of the captions",
        {
            "Lexicons of an image": tuple(f"active_{which}" for which in ACTIVE),
            "Lexicons of a caption": tuple(f"query_active_{which}" for which in ACTIVE),
            "Lexicons of an image against the words of its captions": (
                "caption_precision", "caption_precision_weighted", "caption_recall", "caption_recall_weighted",
            ),
        },
    ),
}  # fmt: skip
METRICS_SHOWN = tuple(metric for _, groups in VIEWS.values() for metrics in groups.values() for metric in metrics)
NOTES = (
    "No intervals: the records hold one number for a run, not one for each image. The mean over seeds, where there are several.",
)


def section(evidence: Evidence) -> Section:
    whole = table(evidence)
    views = [
        whole.select(
            name, caption, ["variant", "seeds", *(metric for metrics in groups.values() for metric in metrics)], NOTES
        )
        for name, (caption, groups) in VIEWS.items()
    ]
    sizes = sorted({cell.n for row in whole.rows for cell in row.values() if cell.n})
    measured = bool(sizes)
    data = {
        "views": [view.name for view in views if measured],
        "sizes": sizes,
        "definitions": definitions(METRICS_SHOWN),
    }
    return Section(
        "diagnostics", "Sparsity: what the lexicons are like", tables=[whole, *views] if measured else [], data=data
    )


def table(evidence: Evidence) -> Table:
    columns = [
        _column(metric, group)
        for _, groups in VIEWS.values()
        for group, metrics in groups.items()
        for metric in metrics
    ]
    rows = []
    for variant in evidence.variants:
        cells = {metric: _cell(evidence, variant, metric) for metric in METRICS_SHOWN}
        rows.append({"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))} | cells)
    caption = f"Sparsity diagnostics on {evidence.corpus or 'no corpus'}, profile {evidence.profile or 'unknown'}"
    return Table(
        "diagnostics", caption, (Column("variant", "Variant"), Column("seeds", "Seeds", integer), *columns), rows, NOTES
    )


def _column(metric: str, group: str) -> Column:
    """With the label of the registry; of numbers of lexicons what the group does not say."""
    found = METRICS[metric]
    if found.unit == "share":
        return Column(metric, f"{found.label}, %", percent, group)
    return Column(metric, metric.rpartition("_")[2] if "active_" in metric else found.label, _count, group)


def _count(value: float) -> str:
    return integer(value) if float(value).is_integer() else significant(value)


def _cell(evidence: Evidence, variant: str, metric: str) -> Cell:
    if evidence.kinds.get(variant) == "dense":
        return Cell("dense")
    cell, rows = evidence.cell(variant, metric, **TASK), evidence.measured(variant, metric, **TASK)
    if cell.missing:
        return cell
    last = rows.iloc[-1]
    return replace(
        cell,
        n=f"{last.images:,.0f} images, {last.queries:,.0f} captions, {len(rows)} seed{'s' if len(rows) > 1 else ''}",
    )
