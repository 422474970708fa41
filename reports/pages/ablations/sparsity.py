"""Sparsity of the lexicon vectors: how full and skewed an index is, and whether lexicons are words of the captions."""

from dataclasses import replace

from bench.store.metrics import METRICS
from reports.pages import Section, definitions
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent, significant

TASK = {"task": "sparsity", "split": "test", "top_k": None}
ACTIVE = ("mean", "p5", "p50", "p95")
VIEWS = {
    "sparsity_index": (
        "Index: all lexicons of the images, before pruning",
        {
            "Images": ("items", "empty_items"),
            "Vocabulary": ("dimension", "lexicons_used", "dead_lexicons", "always_on_lexicons", "lexicons_in_all"),
            "Posting lists": ("postings_gini", "postings_top_share"),
        },
    ),
    "sparsity_lexicons": (
        "Active lexicons, and their overlap with the words of the captions",
        {
            "Lexicons of an image": tuple(f"active_{which}" for which in ACTIVE),
            "Lexicons of a caption": tuple(f"query_active_{which}" for which in ACTIVE),
            "Lexicons of an image against the words of its captions": (
                "caption_precision",
                "caption_precision_weighted",
                "caption_recall",
                "caption_recall_weighted",
            ),
        },
    ),
}
GROUP_OF = {metric: group for _, groups in VIEWS.values() for group, metrics in groups.items() for metric in metrics}
NOTES = ("Mean over seeds; no intervals, since the records hold one number for a run.",)


def section(evidence: Evidence) -> Section:
    whole, views = table(evidence), []
    for name, (caption, groups) in VIEWS.items():
        keys = ["variant", "seeds", *(metric for metrics in groups.values() for metric in metrics)]
        views.append(whole.select(name, caption, keys, NOTES))
    sizes = sorted({cell.n for row in whole.rows for cell in row.values() if cell.n})
    data = {
        "views": [view.name for view in views if sizes],
        "sizes": sizes,
        "definitions": definitions(GROUP_OF),
    }
    tables = [whole, *views] if sizes else []
    return Section("sparsity", "Sparsity of the lexicon vectors", tables=tables, data=data, folder="ablations")


def table(evidence: Evidence) -> Table:
    """All metrics of every variant; `VIEWS` are parts of it."""
    columns = [Column("variant", "Variant"), Column("seeds", "Seeds", integer)]
    columns += [_column(metric, group) for metric, group in GROUP_OF.items()]
    rows = []
    for variant in evidence.variants:
        cells = {metric: _cell(evidence, variant, metric) for metric in GROUP_OF}
        rows.append({"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))} | cells)
    caption = f"Sparsity on {evidence.corpus or 'no corpus'}, profile {evidence.profile or 'unknown'}"
    return Table("sparsity", caption, tuple(columns), rows, NOTES)


def _column(metric: str, group: str) -> Column:
    """Labelled by the registry; counts of active lexicons by their statistic only."""
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
    last, seeds = rows.iloc[-1], f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"
    return replace(cell, n=f"{last.images:,.0f} images, {last.queries:,.0f} captions, {seeds}")
