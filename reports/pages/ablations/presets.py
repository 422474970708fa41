"""Presets: the same variants trained under several profiles, by training cost and validation recall.

Only validation recall can be compared, since presets may be tested on galleries of different sizes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent

COST = {"seconds": "train_seconds", "cpu": "train_cpu_seconds", "pairs": "train_samples"}


@dataclass(frozen=True)
class Run:
    """Means over `seeds` trainings. `values`: seconds, cpu, pairs, images, and r1 and r10 of the chosen checkpoint."""

    variant: str
    profile: str
    seeds: int
    values: dict[str, float]
    points: tuple[str, ...]


def section(evidence: Evidence) -> Section | None:
    found = runs(evidence)
    if len({run.profile for run in found}) < 2:
        return None
    return Section("presets", "Presets by training time", tables=[table(found)], folder="ablations")


def runs(evidence: Evidence) -> list[Run]:
    """Runs of variants trained under several profiles on the report's corpus; the newest configuration of each."""
    rows = evidence.trained
    rows = rows[(rows.status == "ok") & np.isfinite(rows.value)].sort_values("started")
    newest = rows.groupby(["variant", "profile", "seed"], dropna=False).config_id.transform("last")
    found = []
    for (variant, profile), of_profile in rows[rows.config_id == newest].groupby(["variant", "profile"]):
        made = [seed for _, of_seed in of_profile.groupby("seed", dropna=False) if (seed := _of_seed(of_seed))]
        if made:
            values = {name: float(np.mean([one[name] for one, _ in made])) for name in made[0][0]}
            points = tuple(point for _, behind in made for point in behind)
            found.append(Run(variant, profile, len(made), values, points))
    variants = [run.variant for run in found]
    several = (run for run in found if variants.count(run.variant) > 1)
    return sorted(several, key=lambda run: (run.variant, run.values["seconds"]))


def _of_seed(rows: pd.DataFrame) -> tuple[dict[str, float], tuple[str, ...]] | None:
    """Cost and recall of one training, and its points; None if either is not recorded."""
    cost = rows[rows.step.isna()].drop_duplicates("metric", keep="last").set_index("metric")
    val = rows[(rows.split == "val") & (rows.direction == "text_to_image")]
    if not {*COST.values(), "chosen_step"} <= set(cost.index):
        return None
    at = val[val.step == cost.value.chosen_step].drop_duplicates("metric", keep="last").set_index("metric")
    if not {"recall@1", "recall@10"} <= set(at.index):
        return None
    values = {name: cost.value[metric] for name, metric in COST.items()} | {"images": at.images["recall@1"]}
    values |= {"r1": at.value["recall@1"], "r10": at.value["recall@10"]}
    return values, (*cost.point_id.unique(), *at.point_id.unique())


def table(found: list[Run]) -> Table:
    """One row for each variant and preset, the shortest training first."""
    rows = []
    for run in found:
        cells = {"variant": Cell(run.variant), "profile": Cell(run.profile), "seeds": Cell(run.seeds)}
        rows.append(cells | {name: Cell(value, points=run.points) for name, value in run.values.items()})
    training, val = "Training", "Validation, text to image"
    columns = (
        Column("variant", "Variant"),
        Column("profile", "Preset"),
        Column("seeds", "Seeds", integer),
        Column("seconds", "seconds", integer, training),
        Column("cpu", "CPU s", integer, training),
        Column("pairs", "pairs seen", integer, training),
        Column("images", "images", integer, val),
        Column("r1", "R@1, %", percent, val),
        Column("r10", "R@10, %", percent, val),
    )
    notes = ("The checkpoint chosen on val, by brute force on un-pruned vectors; mean over seeds.",)
    return Table("presets", "The same variants under several presets", columns, rows, notes)
