"""Every variant in one table: quality, its difference to the reference, robustness and cost."""

import functools

import pandas as pd

from reports.findings import comparisons
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent, points, significant, size

APART = pd.Timedelta(hours=1)
T2I, I2T = "text_to_image", "image_to_text"
RECALLS = ("recall@1", "recall@5", "recall@10", "median_rank", "trec_recall@1")
SHORT = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "median_rank": "median rank",
    "trec_recall@1": "TREC r@1",
}
KINDS = ("attribute", "count", "relation")

QUALITY = [f"{m} {T2I}" for m in RECALLS] + [f"{m} {I2T}" for m in RECALLS]
DIFFERENCES = [f"difference {m}" for m in comparisons.TESTED]
VIEWS = {
    "ablations_text_to_image": (
        "Text to image: recall, and difference to the reference",
        ["variant", "seeds", *(f"{m} {T2I}" for m in RECALLS), *DIFFERENCES, "compositional"],
    ),
    "ablations_image_to_text": ("Image to text, and hard negatives", ["variant", "seeds", *(f"{m} {I2T}" for m in RECALLS), "hard", *(f"hard {k}" for k in KINDS)]),
    "ablations_cost": ("Lexicons, size and training", ["variant", "seeds", "lexicons image", "lexicons text", "flops", "bytes", "train seconds", "train cpu", "train rate", "parameters", "step"]),
}  # fmt: skip
SUCCESS = "R@K is Success@K: the share of queries with at least one correct item in the top K."
VIEW_NOTES = {
    "ablations_text_to_image": (
        f"{SUCCESS} TREC r@1, the share of a query's correct items in the top 1, is the same where each caption has one correct image. "
        "Compositional: combinations of concept and attribute, or of two concepts, that never occur in train.",
        f"{comparisons.SIGNIFICANT} significant after Holm's correction over all differences in this table; {comparisons.OF_ONE_SEED} the same of one seed, "
        "over its queries alone: another training run need not show it.",
    ),
    "ablations_image_to_text": (
        "TREC r@1 counts all five captions of an image, so it cannot pass 20.0. Hard negatives: the image must score its caption above the same caption "
        "with one attribute, count or relation swapped (on float vectors, before pruning); chance is 50.0.",
    ),
    "ablations_cost": (
        "FLOPs per pair: expected multiply-adds to score one query against one document; the dimension for dense vectors.",
    ),
}


def section(evidence: Evidence) -> Section:
    whole = table(evidence)
    added = {"ablations_text_to_image": alone(evidence), "ablations_cost": stretches(evidence)}
    notes = {name: (*said, *added.get(name, ())) for name, said in VIEW_NOTES.items()}
    views = [whole.select(name, caption, keys, notes[name]) for name, (caption, keys) in VIEWS.items()]
    tests = comparisons.tests(evidence)
    return Section(
        "ablations",
        "Ablations",
        tables=[whole, *views],
        data={
            "sizes": sizes(whole),
            "views": [view.name for view in views],
            "tests": len(tests),
            "operating": operating_points(evidence),
            "significant": evidence.reading.significant,
        },
    )


def sizes(whole: Table) -> list[tuple[str, str]]:
    """How many queries each seed of a group of columns rests on: all that occur. Seeds have a column of their own."""
    columns = {
        "Text to image": f"recall@1 {T2I}",
        "image to text": f"recall@1 {I2T}",
        "compositional": "compositional",
        "hard negatives": "hard",
    }
    found = {
        name: dict.fromkeys(row[key].n.rpartition(", ")[0] for row in whole.rows if row[key].n)
        for name, key in columns.items()
    }
    return [(name, " or ".join(n)) for name, n in found.items() if n]


def table(evidence: Evidence) -> Table:
    reference = evidence.reading.reference
    return Table(
        "ablations",
        f"Variants on {evidence.corpus or 'no corpus'}, profile {evidence.profile or 'unknown'}: quality, difference to {reference}, robustness, cost",
        tuple(columns(reference)),
        [row(evidence, variant) for variant in evidence.variants],
        notes=(*(note for notes in VIEW_NOTES.values() for note in notes), *alone(evidence), *stretches(evidence)),
    )


def alone(evidence: Evidence) -> tuple[str, ...]:
    """Where some variants have several seeds: which have one, and how far apart the seeds of one variant lie."""
    seeds = {variant: len(evidence.seeds(variant)) for variant in evidence.variants}
    once = [variant for variant, count in seeds.items() if count == 1]
    if not once or len(once) == len(seeds):
        return ()
    said = f"Of one seed, and so with intervals and tests over queries alone, which say nothing about another training run: {', '.join(once)}."
    return (said, *spread(evidence))


def spread(evidence: Evidence) -> tuple[str, ...]:
    """How far the R@1 of the seeds of one variant lies apart: of the variant in which it does the most, and of the reference."""
    of_seeds = {variant: _quality(evidence, variant).value for variant in evidence.variants}
    apart = {variant: values.max() - values.min() for variant, values in of_seeds.items() if len(values) > 1}
    if not apart:
        return ()
    most, reference = max(apart, key=apart.get), evidence.reading.reference
    also = f", of {reference} {percent(apart[reference])}" if reference in apart and most != reference else ""
    return (
        f"R@1 of the seeds of {most} lies {percent(apart[most])} points apart{also}: a difference of one seed that is no larger may be chance in training.",
    )


def _quality(evidence: Evidence, variant: str) -> pd.DataFrame:
    """R@1, text to image, of each seed."""
    return evidence.measured(variant, RECALLS[0], **evidence.retrieval(), **evidence.operating_point(variant))


@functools.lru_cache(maxsize=8)
def trained(evidence: Evidence) -> pd.DataFrame:
    """variant, seed, start, stop and `stretch` of each training; a new stretch begins after more than `APART` in which none ran."""
    ended = [
        evidence.measured(variant, "train_cpu_seconds", task="training", step=None) for variant in evidence.variants
    ]
    rows = pd.concat([rows[["variant", "seed", "started", "seconds"]] for rows in ended]) if ended else pd.DataFrame()
    if rows.empty:
        return rows
    stop = pd.to_datetime(rows.started)  # a training is recorded when it has ended
    rows = rows.assign(start=stop - pd.to_timedelta(rows.seconds, "s"), stop=stop).sort_values("start")
    return rows.assign(stretch=(rows.start > rows.stop.cummax().shift() + APART).cumsum())


def cost_seeds(evidence: Evidence, variant: str) -> dict:
    """The filter that takes the seeds of a variant's last stretch: seconds of another time are of a machine that was as fast, or as free, as it was then."""
    rows = trained(evidence)
    mine = rows[rows.variant == variant] if len(rows) else rows
    return {"seed": tuple(mine[mine.stretch == mine.stretch.max()].seed)} if len(mine) else {}


def stretches(evidence: Evidence) -> tuple[str, ...]:
    """Where trainings lie apart in time: which ran when, and whose seconds are shown."""
    rows = trained(evidence)
    if rows.empty or rows.stretch.nunique() < 2:
        return ()
    said = []
    for _, of_stretch in rows.groupby("stretch"):
        seeds = {
            variant: ", ".join(f"{seed:.0f}" for seed in of_variant.seed)
            for variant, of_variant in of_stretch.groupby("variant")
        }
        which = ", ".join(f"{variant} ({seeds[variant]})" for variant in evidence.variants if variant in seeds)
        said.append(f"from {of_stretch.start.min():%Y-%m-%d %H:%M} to {of_stretch.stop.max():%Y-%m-%d %H:%M} {which}")
    told = "A machine need not be as fast, or as free, at another time: seconds and rates are of the last time that a variant was trained; compare within one."
    return (f"Trained (seeds) {'; '.join(said)}. {told}",)


def columns(reference: str) -> list[Column]:
    quality = []
    for direction, group in ((T2I, "Text to image, %"), (I2T, "Image to text, %")):
        for metric in RECALLS:
            quality.append(
                Column(
                    f"{metric} {direction}", SHORT[metric], significant if metric == "median_rank" else percent, group
                )
            )
        if direction == T2I:
            quality += [
                Column(f"difference {m}", SHORT[m], points, f"Difference to {reference}, points")
                for m in comparisons.TESTED
            ]
            quality.append(Column("compositional", "R@1", percent, "Compositional, %"))
    negatives = [
        Column("hard", "all", percent, "Hard negatives, %"),
        *(Column(f"hard {k}", k, percent, "Hard negatives, %") for k in KINDS),
    ]
    cost = [
        Column("lexicons image", "per image", significant, "Active lexicons"),
        Column("lexicons text", "per text", significant, "Active lexicons"),
        Column("flops", "FLOPs per pair", significant, "Search"),
        Column("bytes", "index per image", size, "Search"),
        Column("train seconds", "seconds", integer, "Training"),
        Column("train cpu", "CPU s", integer, "Training"),
        Column("train rate", "pairs/s", integer, "Training"),
        Column("parameters", "parameters", integer, "Training"),
        Column("step", "chosen step", integer, "Training"),
    ]
    return [Column("variant", "Variant"), Column("seeds", "Seeds", integer), *quality, *negatives, *cost]


def row(evidence: Evidence, variant: str) -> dict[str, Cell]:
    operating = evidence.operating_point(variant)
    cells = {"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))}
    for direction in (T2I, I2T):
        filters = evidence.retrieval("test", direction) | operating
        cells |= {f"{metric} {direction}": evidence.cell(variant, metric, **filters) for metric in RECALLS}
    cells |= {
        f"difference {metric}": comparisons.difference_cell(evidence, variant, metric) for metric in comparisons.TESTED
    }
    cells["compositional"] = evidence.cell(variant, "recall@1", **evidence.retrieval("compositional", T2I), **operating)
    for kind in ("", *KINDS):
        cells[f"hard {kind}".strip()] = _hard_negatives(
            evidence, variant, "_".join(filter(None, ("hard_negative_accuracy", kind)))
        )
    size_filters = {"images": evidence.gallery.get(("test", T2I)), "split": "test", "direction": (T2I, "")} | operating
    cells |= {
        "lexicons image": _lexicons(evidence, variant, "active_lexicons_image", size_filters),
        "lexicons text": _lexicons(evidence, variant, "active_lexicons_text", size_filters),
        "flops": evidence.cell(variant, "flops_per_pair", **size_filters),
        "bytes": evidence.cell(variant, "bytes_per_image", **size_filters),
        "train seconds": training(evidence, variant, "train_seconds", **cost_seeds(evidence, variant)),
        "train cpu": training(evidence, variant, "train_cpu_seconds", **cost_seeds(evidence, variant)),
        "train rate": training(evidence, variant, "train_samples_per_second", **cost_seeds(evidence, variant)),
        "parameters": training(evidence, variant, "parameters"),
        "step": chosen_step(evidence, variant),
    }
    return cells


def operating_points(evidence: Evidence) -> str:
    r = evidence.reading
    return f"lexicon vectors: engine {r.lexicon_engine}, {r.top_k} lexicons kept per document, {r.bits}-bit impacts; dense vectors: engine {r.dense_engine}, exact"


def training(evidence: Evidence, variant: str, metric: str, **seeds: tuple[float, ...]) -> Cell:
    """The value at the end of training; where only curves were recorded, the last point of the curve."""
    at_end = evidence.cell(variant, metric, task="training", step=None, **seeds)
    if not at_end.missing:
        return at_end
    curve = evidence.matching(variant, metric, task="training")
    curve = (
        curve[(curve.status == "ok") & curve.value.notna() & curve.step.notna()]
        .sort_values("step")
        .drop_duplicates("seed", keep="last")
    )
    return (
        Cell(float(curve.value.mean()), n=f"{len(curve)} seeds", points=tuple(curve.point_id)) if len(curve) else at_end
    )


def chosen_step(evidence: Evidence, variant: str) -> Cell:
    """The step whose checkpoint was chosen, the mean over seeds; where it was not recorded, that of the highest R@1 on val."""
    recorded = training(evidence, variant, "chosen_step")
    curve = evidence.matching(variant, "recall@1", task="training", split="val", direction=(T2I, ""))
    if not recorded.missing:
        return recorded
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
    """At the operating point where it was measured there, else on the float vectors as encoded."""
    filters = {"task": "hard_negatives", "split": "test"}
    operating = evidence.cell(variant, metric, **filters, **evidence.operating_point(variant))
    return evidence.cell(variant, metric, **filters) if operating.missing else operating
