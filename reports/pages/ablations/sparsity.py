"""Sparsity of the lexicon vectors: how full and skewed an index is, and whether lexicons are words of the captions."""

from dataclasses import replace

from bench.store.metrics import METRICS
from reports.pages import Section, definitions
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent, significant

ACTIVE = ("mean", "p5", "p50", "p95")
WHOLE = {
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
"""Views of un-pruned images: name -> (caption, metrics of each group of columns)."""

PRUNED = {
    "sparsity_words": (
        "Words: images pruned to their {} strongest lexicons",
        {
            "Words of the captions": ("caption_precision_weighted", "strongest_is_word", "caption_recall"),
            "Search by typed words": tuple(f"typed_recall@{k}" for k in (1, 5, 10)),
            "What the image shows": tuple(f"truth_{of}{k}" for k in ("", "@8") for of in ("precision", "recall")),
            "Words used": ("dead_frequent", "dead_lexicons", "always_on_lexicons", "piece_weight"),
            "A query": ("query_active_mean", "touched_postings"),
        },
    ),
}
"""Views of images pruned to the operating point."""

METRICS_OF = [metric for _, groups in (*WHOLE.values(), *PRUNED.values()) for of in groups.values() for metric in of]
NOTES = ("Mean over seeds; no intervals, since the records hold one number for a run.",)


def section(evidence: Evidence) -> Section:
    whole, views = table(evidence), []
    for name, (caption, groups) in (WHOLE | PRUNED).items():
        keys = [_key(metric, name in PRUNED) for metrics in groups.values() for metric in metrics]
        view = whole.select(name, caption.format(evidence.reading.top_k), ["variant", "seeds", *keys], NOTES)
        if any(cell.n for row in view.rows for key in keys if (cell := row[key])):
            views.append(view.measured(keys) if name in PRUNED else view)
    sizes = sorted({cell.n for row in whole.rows for cell in row.values() if cell.n})
    data = {
        "views": [view.name for view in views],
        "sizes": sizes,
        "definitions": definitions(dict.fromkeys(METRICS_OF)),
    }
    tables = [whole, *views] if views else []
    return Section("sparsity", "Sparsity of the lexicon vectors", tables=tables, data=data, folder="ablations")


def table(evidence: Evidence) -> Table:
    """All metrics of every variant; the views are parts of it."""
    columns, rows = [Column("variant", "Variant"), Column("seeds", "Seeds", integer)], []
    at = {}
    for views, pruned in ((WHOLE, False), (PRUNED, True)):
        for _, groups in views.values():
            columns += [_column(metric, group, pruned) for group, metrics in groups.items() for metric in metrics]
            at |= {_key(metric, pruned): (metric, pruned) for metrics in groups.values() for metric in metrics}
    for variant in evidence.variants:
        cells = {key: _cell(evidence, variant, metric, pruned) for key, (metric, pruned) in at.items()}
        rows.append({"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))} | cells)
    caption = f"Sparsity on {evidence.corpus or 'no corpus'}, profile {evidence.profile or 'unknown'}"
    return Table("sparsity", caption, tuple(columns), rows, NOTES)


def _key(metric: str, pruned: bool) -> str:
    return f"{metric} pruned" if pruned else metric


def _column(metric: str, group: str, pruned: bool) -> Column:
    """Labelled by the registry; counts of active lexicons by their statistic only."""
    found = METRICS[metric]
    key = _key(metric, pruned)
    if found.unit == "share":
        return Column(key, f"{found.label}, %", percent, group)
    return Column(key, metric.rpartition("_")[2] if "active_" in metric else found.label, _count, group)


def _count(value: float) -> str:
    return integer(value) if float(value).is_integer() else significant(value)


def _cell(evidence: Evidence, variant: str, metric: str, pruned: bool) -> Cell:
    if evidence.kinds.get(variant) == "dense":
        return Cell("dense")
    at = {"task": "sparsity", "split": "test", "top_k": evidence.reading.top_k if pruned else None}
    cell, rows = evidence.cell(variant, metric, **at), evidence.measured(variant, metric, **at)
    if cell.missing:
        return cell
    last, seeds = rows.iloc[-1], f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"
    return replace(cell, n=f"{last.images:,.0f} images, {last.queries:,.0f} captions, {seeds}")
