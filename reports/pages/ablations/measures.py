"""Every measure of a model as a row of cells, and the tables that are made of such rows."""

import functools

import pandas as pd

from bench.store.metrics import METRICS
from reports.findings import comparisons
from reports.findings.convergence import curves_by_seed, late_gain
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer, percent, points, significant, size

T2I, I2T = "text_to_image", "image_to_text"
PAUSE = pd.Timedelta(hours=1)  # without training, after which a new period begins
LEXICONS_OF = {"words weight": "caption_precision_weighted", "words typed": "typed_recall@1"}
SPARSITY = {
    "Words of the captions": ("caption_precision_weighted", "strongest_is_word", "caption_recall"),
    "Search by typed words": ("typed_recall@1", "typed_recall@10"),
    "What the image shows": ("truth_precision", "truth_recall", "truth_precision@8", "truth_recall@8"),
    "Lexicons": ("active_mean", "query_active_mean", "dead_lexicons", "always_on_lexicons", "piece_weight"),
}
TRAINING = {
    "train_cpu_seconds": ("CPU s", significant), "train_seconds": ("seconds", significant),
    "train_samples_per_second": ("pairs/s", significant), "parameters": ("parameters", significant),
    "chosen_step": ("chosen step", integer),
}  # fmt: skip


def table(evidence: Evidence) -> list[Table]:
    """At most eight columns, then the others by subject."""
    r = evidence.reading
    of = {name: row(evidence, name) for name in evidence.variants}
    made, model = list(of.values()), [Column("variant", "Model"), Column("seeds", "Seeds", integer)]
    recalls = lambda way, ks: [Column(f"recall@{k} {way}", f"R@{k}", percent, _way(way)) for k in ks]  # noqa: E731
    main = [
        *model, *recalls(T2I, (1, 10)), Column("difference recall@1", f"R@1 minus {r.reference}", points),
        *word_columns(evidence), Column("train_cpu_seconds", "Training, CPU s", significant),
    ]  # fmt: skip
    hard = [
        Column(f"hard {kind}".strip(), kind or "all", percent, "Hard negatives, %")
        for kind in ("", "attribute", "count", "relation")
    ]
    views = {
        "quality": ("Text to image", [
            *recalls(T2I, (1, 5, 10)), Column("true@1", "True@1, %", percent),
            Column("median", "Median rank", significant),
            Column("compositional", "Unseen combinations, R@1", percent),
            Column("detectable", "Minimum detectable R@1 difference (80% power), points", percent),
            Column("difference recall@10", f"R@10 minus {r.reference}", points),
        ]),
        "reverse": ("Image to text, and hard negatives", [*recalls(I2T, (1, 10)), *hard]),
        "sparsity": (f"Lexicons and words, {r.top_k} lexicons kept", [
            Column(metric, METRICS[metric].label, percent if METRICS[metric].unit == "share" else significant, group)
            for group, metrics in SPARSITY.items() for metric in metrics
        ]),
        "cost": ("Size and training", [
            Column("bytes", "Index, bytes per image", size), Column("flops", "Multiply-adds per pair", significant),
            Column("lexicons image", "image", significant, "Active lexicons"),
            Column("lexicons text", "text", significant, "Active lexicons"),
            *(Column(metric, *rest, "Training") for metric, rest in TRAINING.items()),
            Column("gain", "R@1 gained in the last quarter", points, "Training"),
        ]),
        "zero_shot": ("Zero-shot classification, top-1", [
            Column(f"zero_shot {kind}", kind, percent, "Accuracy, %") for kind in kinds(evidence).values()
        ]),
    }  # fmt: skip
    notes = (
        f"Test images of {evidence.corpus or 'no corpus'}, profile {evidence.profile or 'unknown'}, with 95% intervals "
        f"where per-query results were kept. {comparisons.NOTE}",
    )
    tables = [Table("ablations", "All models", tuple(main), made, notes).measured(LEXICONS_OF)]
    for name, (caption, columns) in views.items():
        view = Table(f"ablations_{name}", caption, (*model, *columns), made)
        kept = view.measured([column.key for column in columns])
        tables += [kept] if len(kept.columns) > len(model) else []
    return tables


def _way(way: str) -> str:
    return "Text to image, %" if way == T2I else "Image to text, %"


def row(evidence: Evidence, variant: str) -> dict[str, Cell]:
    """All cells of a model."""
    operating, dense = evidence.operating_point(variant), evidence.kinds.get(variant) == "dense"
    cells = {"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))}
    for way in (T2I, I2T):
        at = evidence.retrieval("test", way) | operating
        cells |= {f"recall@{k} {way}": evidence.cell(variant, f"recall@{k}", **at) for k in (1, 5, 10)}
    at = evidence.retrieval() | operating
    cells |= {"median": evidence.cell(variant, "median_rank", **at), "true@1": evidence.cell(variant, "true@1", **at)}
    cells["compositional"] = evidence.cell(variant, "recall@1", **evidence.retrieval("compositional"), **operating)
    cells |= {
        f"difference {metric}": comparisons.difference_cell(evidence, variant, metric) for metric in comparisons.TESTED
    }
    cells["detectable"] = comparisons.detectable_cell(evidence, variant, "recall@1")
    for kind in ("", "attribute", "count", "relation"):
        cells[f"hard {kind}".strip()] = _hard_negatives(evidence, variant, f"hard_negative_accuracy_{kind}".rstrip("_"))
    cells |= words_of(evidence, variant)
    kept = {"task": "sparsity", "split": "test", "top_k": evidence.reading.top_k}
    cells |= {
        metric: Cell("dense") if dense else evidence.cell(variant, metric, **kept)
        for of in SPARSITY.values()
        for metric in of
    }
    at = {"task": ("retrieval", "index"), "images": evidence.gallery.get(("test", T2I)), "split": "test"}
    at |= {"direction": (T2I, "")} | operating
    for key, metric in (("lexicons image", "active_lexicons_image"), ("lexicons text", "active_lexicons_text")):
        cells[key] = Cell("dense") if dense else evidence.cell(variant, metric, **at)
    cells |= {
        "flops": evidence.cell(variant, "flops_per_pair", **at),
        "bytes": evidence.cell(variant, "bytes_per_image", **at),
    }
    last = cost_seeds(evidence, variant)
    for metric in TRAINING:
        cells[metric] = evidence.cell(
            variant, metric, task="training", step=None, **(last if metric.startswith("train_") else {})
        )
    grid = curves_by_seed(evidence, variant, "recall@1", "val").mean(axis=1)
    if len(grid) > 1:
        cells["gain"] = Cell(late_gain(grid.index.to_numpy(float), grid.to_numpy()))
    for knobs, kind in kinds(evidence).items():
        cells[f"zero_shot {kind}"] = evidence.cell(
            variant, "zero_shot_top1", task="zero_shot", split="test", knobs=knobs
        )
    return cells


def word_columns(evidence: Evidence) -> list[Column]:
    """Columns of the words of an image, at the operating point."""
    group = f"Words, {evidence.reading.top_k} lexicons, %"
    return [
        Column("words weight", "weight on caption words", percent, group),
        Column("words typed", "R@1, typed words", percent, group),
    ]


def words_of(evidence: Evidence, variant: str) -> dict[str, Cell]:
    """Cells of `word_columns`; a dash for dense vectors."""
    if evidence.kinds.get(variant) == "dense":
        return dict.fromkeys(LEXICONS_OF, Cell(NOT_APPLICABLE))
    at = {"task": "sparsity", "split": "test", "top_k": evidence.reading.top_k}
    return {key: evidence.cell(variant, metric, **at) for key, metric in LEXICONS_OF.items()}


def kinds(evidence: Evidence) -> dict[str, str]:
    """Knobs of the records of zero-shot classification -> the kind of class that they name."""
    rows = evidence.rows[evidence.rows.task == "zero_shot"]
    named = {knobs: values.get("classes") for knobs in set(rows.knobs) if isinstance(values := parsed(knobs), dict)}
    return dict(sorted(((knobs, str(kind)) for knobs, kind in named.items() if kind), key=lambda one: one[1]))


def _hard_negatives(evidence: Evidence, variant: str, metric: str) -> Cell:
    """At the operating point if measured there, else on float vectors."""
    at = {"task": "hard_negatives", "split": "test"}
    operating = evidence.cell(variant, metric, **at, **evidence.operating_point(variant))
    return evidence.cell(variant, metric, **at) if operating.missing else operating


@functools.lru_cache(maxsize=8)
def _trained(evidence: Evidence) -> pd.DataFrame:
    """variant, seed and `period` of each training; a new period begins after a `PAUSE`."""
    ended = [evidence.measured(name, "train_cpu_seconds", task="training", step=None) for name in evidence.variants]
    rows = pd.concat([rows[["variant", "seed", "started", "seconds"]] for rows in ended]) if ended else pd.DataFrame()
    if rows.empty:
        return rows
    stop = pd.to_datetime(rows.started)  # a training is recorded when it ends
    rows = rows.assign(start=stop - pd.to_timedelta(rows.seconds, "s"), stop=stop).sort_values("start")
    return rows.assign(period=(rows.start > rows.stop.cummax().shift() + PAUSE).cumsum())


def cost_seeds(evidence: Evidence, variant: str) -> dict:
    """Filter for the seeds of the last period of a model: the machine may have been faster or freer before."""
    rows = _trained(evidence)
    mine = rows[rows.variant == variant] if len(rows) else rows
    return {"seed": tuple(mine[mine.period == mine.period.max()].seed)} if len(mine) else {}
