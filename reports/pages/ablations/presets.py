"""Presets beside each other: the same variants trained under several profiles on the same corpus, by what training cost and what it reached on val.

The question is whether a preset is better in no more time, so a preset beats another where it took at most as long (but for `SLACK`) and ended higher.
Val alone can be compared: presets may be measured on galleries of other sizes.
"""

from dataclasses import dataclass

import numpy as np

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent

SLACK = 1.05  # of the other's time, which is the same time
WITHIN = 0.01  # of R@1 on val, which decides nothing: some hundred pictures


@dataclass(frozen=True)
class Run:
    """A training by a profile; means over its `seeds`. `r1` and `r10`: text to image on val, of the chosen checkpoint."""

    variant: str
    profile: str
    seeds: int
    seconds: float
    cpu_seconds: float
    pairs: float
    images: float
    r1: float
    r10: float
    points: tuple[str, ...]


def section(evidence: Evidence) -> Section | None:
    found = runs(evidence)
    profiles = {run.profile for run in found}
    if len(profiles) < 2:
        return None
    return Section(
        "presets",
        "Presets at equal training time",
        tables=[table(found)],
        data={"sentences": sentences(found, evidence.reading.reference)},
    )


def runs(evidence: Evidence) -> list[Run]:
    """Of each variant that was trained under several profiles, the newest configuration of each, on the page's corpus."""
    rows = evidence.all[
        (evidence.all.task == "training") & (evidence.all.corpus == evidence.corpus) & (evidence.all.status == "ok")
    ]
    rows = rows[np.isfinite(rows.value)].sort_values("started")
    newest = rows.groupby(["variant", "profile", "seed"], dropna=False).config_id.transform("last")
    rows = rows[rows.config_id == newest]
    found = []
    for (variant, profile), of_profile in rows.groupby(["variant", "profile"]):
        made = [seed for _, of_seed in of_profile.groupby("seed", dropna=False) if (seed := _of_seed(of_seed))]
        if made:
            values = {name: float(np.mean([one[name] for one in made])) for name in made[0] if name != "points"}
            found.append(
                Run(
                    variant,
                    profile,
                    len(made),
                    **values,
                    points=tuple(point for one in made for point in one["points"]),
                )
            )
    several = {run.variant for run in found if sum(other.variant == run.variant for other in found) > 1}
    return sorted((run for run in found if run.variant in several), key=lambda run: (run.variant, run.seconds))


def _of_seed(rows) -> dict | None:
    """What one training cost and reached; None where its cost or its curve is not recorded."""
    cost = rows[rows.step.isna()].drop_duplicates("metric", keep="last").set_index("metric")
    val = rows[(rows.split == "val") & (rows.direction == "text_to_image")]
    needed = ("train_seconds", "train_cpu_seconds", "train_samples", "chosen_step")
    if not set(needed) <= set(cost.index):
        return None
    at = val[val.step == cost.value.chosen_step].drop_duplicates("metric", keep="last").set_index("metric")
    if not {"recall@1", "recall@10"} <= set(at.index):
        return None
    return {
        "seconds": cost.value.train_seconds, "cpu_seconds": cost.value.train_cpu_seconds, "pairs": cost.value.train_samples,
        "images": at.images["recall@1"], "r1": at.value["recall@1"], "r10": at.value["recall@10"],
        "points": (*cost.point_id.unique(), *at.point_id.unique()),
    }  # fmt: skip


def table(found: list[Run]) -> Table:
    rows = [
        {
            "variant": Cell(run.variant), "profile": Cell(run.profile), "seeds": Cell(run.seeds), "seconds": Cell(run.seconds, points=run.points),
            "cpu": Cell(run.cpu_seconds, points=run.points), "pairs": Cell(run.pairs, points=run.points), "images": Cell(run.images),
            "r1": Cell(run.r1, points=run.points), "r10": Cell(run.r10, points=run.points),
        }
        for run in found
    ]  # fmt: skip
    columns = (
        Column("variant", "Variant"), Column("profile", "Preset"), Column("seeds", "Seeds", integer), Column("seconds", "seconds", integer, "Training"),
        Column("cpu", "CPU s", integer, "Training"), Column("pairs", "pairs seen", integer, "Training"), Column("images", "pictures", integer, "Val, text to image"),
        Column("r1", "R@1, %", percent, "Val, text to image"), Column("r10", "R@10, %", percent, "Val, text to image"),
    )  # fmt: skip
    notes = (
        "The checkpoint chosen on val; brute force on un-pruned vectors; the mean over seeds. No test picture was looked at for this table.",
    )
    return Table("presets", "The same variants under several presets", columns, rows, notes)


def sentences(found: list[Run], reference: str) -> list[str]:
    """What each pair of presets says, of the reference first."""
    said = []
    for variant in sorted({run.variant for run in found}, key=lambda name: (name != reference, name)):
        of_variant = [run for run in found if run.variant == variant]
        said += [_said(one, other) for place, one in enumerate(of_variant) for other in of_variant[place + 1 :]]
    return said


def _said(one: Run, other: Run) -> str:
    """Of two runs, the first of which took less time."""
    better, worse = (one, other) if one.r1 >= other.r1 else (other, one)
    told = {run: f"{run.profile} ({percent(run.r1)} % after {integer(run.seconds)} s)" for run in (one, other)}
    if better.r1 - worse.r1 < WITHIN:
        return f"{one.variant}: {told[one]} and {told[other]} are within {percent(WITHIN)} point of R@1: neither beats the other."
    if better.seconds <= SLACK * worse.seconds:
        return f"{one.variant}: {told[better]} beats {told[worse]} in no more training time."
    return (
        f"{one.variant}: {told[better]} is ahead of {told[worse]}, but took longer: at equal time nothing is decided."
    )
