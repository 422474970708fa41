"""Every variant in one table: quality, difference to the reference, robustness and cost."""

import functools

import pandas as pd

from reports.findings import comparisons
from reports.pages import Section
from reports.records.evidence import Evidence, Reading
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer, percent, points, significant, size

PAUSE = pd.Timedelta(hours=1)  # without training, after which a new period begins
T2I, I2T = "text_to_image", "image_to_text"
RECALLS = ("recall@1", "recall@5", "recall@10", "median_rank", "trec_recall@1")
SHORT = dict(zip(RECALLS, ("R@1", "R@5", "R@10", "median rank", "TREC r@1"), strict=True))
KINDS = ("attribute", "count", "relation")
COSTS = {
    "lexicons image": ("per image", significant, "Active lexicons"),
    "lexicons text": ("per text", significant, "Active lexicons"),
    "flops": ("FLOPs per pair", significant, "Search"),
    "bytes": ("index per image", size, "Search"),
    "train seconds": ("seconds", integer, "Training"),
    "train cpu": ("CPU s", integer, "Training"),
    "train rate": ("pairs/s", integer, "Training"),
    "parameters": ("parameters", integer, "Training"),
    "step": ("chosen step", integer, "Training"),
}
WORDS = {
    "words weight": ("caption_precision_weighted", "weight on caption words"),
    "words strongest": ("strongest_is_word", "strongest is one"),
    "words typed": ("typed_recall@10", "R@10 of typed words"),
}
DIFFERENCES = [f"difference {metric}" for metric in comparisons.TESTED]
VIEWS = {
    "ablations_text_to_image": (
        "Text to image, and difference to the reference",
        [*(f"{metric} {T2I}" for metric in RECALLS), *WORDS, *DIFFERENCES, "compositional"],
    ),
    "ablations_image_to_text": (
        "Image to text, and hard negatives",
        [*(f"{metric} {I2T}" for metric in RECALLS), "hard", *(f"hard {kind}" for kind in KINDS)],
    ),
    "ablations_cost": ("Lexicons, size and training", list(COSTS)),
}
NOTES = {
    "ablations_text_to_image": (
        "R@K is Success@K: the share of queries with a relevant item in the top K. TREC r@1: the share of relevant "
        "items in the top 1. Compositional: combinations of concepts and attributes absent from train.",
        f"{comparisons.SIGNIFICANT} significant after Holm's correction, R@1 and R@10 apart; detects: the least "
        "difference that the test finds with a probability of 80%. Nothing is tested with fewer than three seeds.",
    ),
    "ablations_image_to_text": (
        "TREC r@1 counts all five captions of an image, so it is at most 20.0. Hard negatives: the image must score "
        "its caption above the same caption with one detail swapped (float vectors, before pruning); chance is 50.0.",
    ),
    "ablations_cost": (
        "FLOPs per pair: expected multiply-adds per query and document; the dimension for dense vectors.",
    ),
}


def section(evidence: Evidence) -> Section:
    whole = table(evidence)
    notes = _notes(evidence)
    views = [
        whole.select(name, caption, ["variant", "seeds", *keys], notes[name]) for name, (caption, keys) in VIEWS.items()
    ]
    data = {
        "sizes": sample_sizes(whole),
        "views": [view.name for view in views],
        "tests": len(comparisons.tests(evidence)),
    }
    return Section("ablations", "Ablations", tables=[whole, *views], data=data, folder="ablations")


def table(evidence: Evidence) -> Table:
    """All columns; `VIEWS` are parts of it."""
    on = f"{evidence.corpus or 'no corpus'}, profile {evidence.profile or 'unknown'}"
    rows = [row(evidence, variant) for variant in evidence.variants]
    notes = tuple(note for of_view in _notes(evidence).values() for note in of_view)
    return Table("ablations", f"Variants on {on}", tuple(columns(evidence.reading)), rows, notes).measured(WORDS)


def sample_sizes(whole: Table) -> list[tuple[str, str]]:
    """Number of queries per seed behind each group of columns; all that occur."""
    first = {
        "Text to image": f"recall@1 {T2I}",
        "image to text": f"recall@1 {I2T}",
        "compositional": "compositional",
        "hard negatives": "hard",
    }
    found = {
        name: dict.fromkeys(row[key].n.rpartition(", ")[0] for row in whole.rows if row[key].n)
        for name, key in first.items()
    }
    return [(name, " or ".join(n)) for name, n in found.items() if n]


def _notes(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    """Notes of each view: the fixed ones, and where seeds or periods of training differ between variants."""
    added, rows = {name: () for name in NOTES}, trained(evidence)
    if (apart := largest_spread(evidence)) is not None:
        seeds = [len(evidence.seeds(variant)) for variant in evidence.variants]
        added["ablations_text_to_image"] = (
            f"{seeds.count(1)} of {len(seeds)} variants have one seed. The R@1 of two seeds of one variant differs by "
            f"up to {percent(apart)} points.",
        )
    if len(rows) and rows.period.nunique() > 1:
        added["ablations_cost"] = (
            f"Trained in {rows.period.nunique()} periods from {rows.start.min():%Y-%m-%d %H:%M} to "
            f"{rows.stop.max():%Y-%m-%d %H:%M}: seconds and rates are of the last period of a variant.",
        )
    return {name: (*fixed, *added[name]) for name, fixed in NOTES.items()}


def largest_spread(evidence: Evidence) -> float | None:
    """Largest range of R@1 over the seeds of a variant; None unless some variants have one seed and some several."""
    seeds = {variant: len(evidence.seeds(variant)) for variant in evidence.variants}
    if not 1 <= list(seeds.values()).count(1) < len(seeds):
        return None
    at = evidence.retrieval()
    by_seed = [evidence.measured(v, RECALLS[0], **at, **evidence.operating_point(v)).value for v in evidence.variants]
    return max((values.max() - values.min() for values in by_seed if len(values) > 1), default=None)


@functools.lru_cache(maxsize=8)
def trained(evidence: Evidence) -> pd.DataFrame:
    """variant, seed, start, stop and `period` of each training; a new period begins after a `PAUSE`."""
    ended = [evidence.measured(name, "train_cpu_seconds", task="training", step=None) for name in evidence.variants]
    rows = pd.concat([rows[["variant", "seed", "started", "seconds"]] for rows in ended]) if ended else pd.DataFrame()
    if rows.empty:
        return rows
    stop = pd.to_datetime(rows.started)  # a training is recorded when it ends
    rows = rows.assign(start=stop - pd.to_timedelta(rows.seconds, "s"), stop=stop).sort_values("start")
    return rows.assign(period=(rows.start > rows.stop.cummax().shift() + PAUSE).cumsum())


def cost_seeds(evidence: Evidence, variant: str) -> dict:
    """Filter for the seeds of the last period of a variant: the machine may have been faster or freer before."""
    rows = trained(evidence)
    mine = rows[rows.variant == variant] if len(rows) else rows
    return {"seed": tuple(mine[mine.period == mine.period.max()].seed)} if len(mine) else {}


def word_columns(reading: Reading) -> list[Column]:
    """Columns of the words of an image, at the operating point."""
    group = f"Words, {reading.top_k} lexicons, %"
    return [Column(key, label, percent, group) for key, (_, label) in WORDS.items()]


def columns(reading: Reading) -> list[Column]:
    """Columns of the whole table."""
    found = [Column("variant", "Variant"), Column("seeds", "Seeds", integer)]
    for direction, group in ((T2I, "Text to image, %"), (I2T, "Image to text, %")):
        for metric in RECALLS:
            written = significant if metric == "median_rank" else percent
            found.append(Column(f"{metric} {direction}", SHORT[metric], written, group))
        if direction == T2I:
            minus = f"Minus {reading.reference}, points"
            found += word_columns(reading)
            found += [Column(f"difference {metric}", SHORT[metric], points, minus) for metric in comparisons.TESTED]
            found.append(Column("compositional", "R@1", percent, "Compositional, %"))
    negatives = [("hard", "all"), *((f"hard {kind}", kind) for kind in KINDS)]
    found += [Column(key, label, percent, "Hard negatives, %") for key, label in negatives]
    return found + [Column(key, *rest) for key, rest in COSTS.items()]


def row(evidence: Evidence, variant: str) -> dict[str, Cell]:
    """All cells of a variant."""
    operating = evidence.operating_point(variant)
    cells = {"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))}
    for direction in (T2I, I2T):
        filters = evidence.retrieval("test", direction) | operating
        cells |= {f"{metric} {direction}": evidence.cell(variant, metric, **filters) for metric in RECALLS}
    for metric in comparisons.TESTED:
        cells[f"difference {metric}"] = comparisons.difference_cell(evidence, variant, metric)
    cells |= word_cells(evidence, variant)
    cells["compositional"] = evidence.cell(variant, "recall@1", **evidence.retrieval("compositional", T2I), **operating)
    cells["hard"] = _hard_negatives(evidence, variant, "hard_negative_accuracy")
    for kind in KINDS:
        cells[f"hard {kind}"] = _hard_negatives(evidence, variant, f"hard_negative_accuracy_{kind}")
    at = {"images": evidence.gallery.get(("test", T2I)), "split": "test", "direction": (T2I, "")} | operating
    last = cost_seeds(evidence, variant)
    return cells | {
        "lexicons image": _lexicons(evidence, variant, "active_lexicons_image", at),
        "lexicons text": _lexicons(evidence, variant, "active_lexicons_text", at),
        "flops": evidence.cell(variant, "flops_per_pair", **at),
        "bytes": evidence.cell(variant, "bytes_per_image", **at),
        "train seconds": training(evidence, variant, "train_seconds", **last),
        "train cpu": training(evidence, variant, "train_cpu_seconds", **last),
        "train rate": training(evidence, variant, "train_samples_per_second", **last),
        "parameters": training(evidence, variant, "parameters"),
        "step": chosen_step(evidence, variant),
    }


def word_cells(evidence: Evidence, variant: str) -> dict[str, Cell]:
    """Cells of `word_columns`; a dash for dense vectors."""
    if evidence.kinds.get(variant) == "dense":
        return dict.fromkeys(WORDS, Cell(NOT_APPLICABLE))
    at = {"task": "sparsity", "split": "test", "top_k": evidence.reading.top_k}
    return {key: evidence.cell(variant, metric, **at) for key, (metric, _) in WORDS.items()}


def training(evidence: Evidence, variant: str, metric: str, **seeds: tuple[float, ...]) -> Cell:
    """The value at the end of training; without one, the last point of the curve."""
    at_end = evidence.cell(variant, metric, task="training", step=None, **seeds)
    if not at_end.missing:
        return at_end
    curve = evidence.matching(variant, metric, task="training")
    curve = curve[(curve.status == "ok") & curve.value.notna() & curve.step.notna()]
    last = curve.sort_values("step").drop_duplicates("seed", keep="last")
    return Cell(float(last.value.mean()), n=f"{len(last)} seeds", points=tuple(last.point_id)) if len(last) else at_end


def chosen_step(evidence: Evidence, variant: str) -> Cell:
    """Step of the chosen checkpoint, the mean over seeds; if not recorded, that of the highest validation R@1."""
    recorded = training(evidence, variant, "chosen_step")
    if not recorded.missing:
        return recorded
    curve = evidence.matching(variant, "recall@1", task="training", split="val", direction=(T2I, ""))
    curve = curve[(curve.status == "ok") & curve.value.notna() & curve.step.notna()]
    if curve.empty:
        return recorded
    best = curve.sort_values(["value", "step"], ascending=[False, True]).drop_duplicates("seed")
    return Cell(float(best.step.mean()), n=f"{len(best)} seeds", points=tuple(best.point_id))


def _lexicons(evidence: Evidence, variant: str, metric: str, filters: dict) -> Cell:
    if evidence.kinds.get(variant) == "dense":
        return Cell("dense")
    return evidence.cell(variant, metric, **filters)


def _hard_negatives(evidence: Evidence, variant: str, metric: str) -> Cell:
    """At the operating point if measured there, else on float vectors."""
    filters = {"task": "hard_negatives", "split": "test"}
    operating = evidence.cell(variant, metric, **filters, **evidence.operating_point(variant))
    return evidence.cell(variant, metric, **filters) if operating.missing else operating
