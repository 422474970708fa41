"""Learning curves of every variant, the baseline's among them: a reader must see whether each had converged."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.figures import Figure, Panel, Series, draw, palette
from reports.render.tables import Cell, Column, Table, integer, percent, significant

CONVERGED = 0.01  # of R@1: what gains more in its last quarter would gain more with more steps


def section(evidence: Evidence) -> Section:
    curves = {variant: curve(evidence, variant, "recall@1", "val") for variant in evidence.variants}
    figures = [figure(evidence)] if any(len(x) for x, _ in curves.values()) or _has_loss(evidence) else []
    return Section("learning", "Learning curves", tables=[table(evidence, curves)], figures=figures)


def runs(evidence: Evidence, variant: str, metric: str, split: str) -> pd.DataFrame:
    """Values by step (rows) and seed (columns, −1 for none), at the steps that all seeds have."""
    rows = evidence.matching(variant, metric, task="training", split=split, direction=("text_to_image", ""))
    rows = rows[(rows.status == "ok") & np.isfinite(rows.value) & rows.step.notna()].sort_values("started")
    rows = rows.drop_duplicates(["seed", "step"], keep="last").assign(seed=lambda rows: rows.seed.fillna(-1))
    return rows.pivot(index="step", columns="seed", values="value").dropna().sort_index()


def curve(evidence: Evidence, variant: str, metric: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, the mean over seeds."""
    grid = runs(evidence, variant, metric, split)
    return grid.index.to_numpy(float), grid.mean(axis=1).to_numpy(float)


def late_gain(steps: np.ndarray, values: np.ndarray) -> float:
    """What a curve gained over the last quarter of its steps."""
    return float(values[-1] - np.interp(0.75 * steps[-1], steps, values))


def still_learning(evidence: Evidence) -> dict[str, float]:
    """Variant -> gain of R@1 on val over the last quarter, of those that gained more than `CONVERGED`."""
    curves = {variant: curve(evidence, variant, "recall@1", "val") for variant in evidence.variants}
    gains = {variant: late_gain(steps, values) for variant, (steps, values) in curves.items() if len(steps) > 1}
    return {variant: gain for variant, gain in gains.items() if gain > CONVERGED}


def told(grid: pd.DataFrame, written: Callable[[float], str]) -> list[str]:
    """Whose each point of a curve is: its seed; of several seeds, each one's value."""
    seeds = ["no seed" if seed < 0 else f"seed {seed:.0f}" for seed in grid.columns]
    if len(seeds) == 1:
        return seeds * len(grid)
    each = [
        ", ".join(f"{seed} {written(value)}" for seed, value in zip(seeds, values, strict=True))
        for values in grid.to_numpy()
    ]
    return [f"mean of {said}" for said in each]


def seconds(evidence: Evidence, variant: str, steps: np.ndarray) -> np.ndarray | None:
    """Training seconds at each step, None where they were not recorded with the curve."""
    for split in ("val", "train"):
        at, values = curve(evidence, variant, "train_seconds", split)
        if len(at) > 1:
            return np.interp(steps, at, values)
    return None


def figure(evidence: Evidence) -> Figure:
    looks = palette(evidence.variants)
    strong = (evidence.reading.reference, evidence.reading.baseline)
    by_step, by_time, loss = [], [], []
    for variant in evidence.variants:
        look = {k: v for k, v in looks[variant].items() if k != "marker"} | {"marker": "", "strong": variant in strong}
        steps, values = curve(evidence, variant, "recall@1", "val")
        if len(steps):
            details = told(runs(evidence, variant, "recall@1", "val"), lambda value: f"R@1 {percent(value)} %")
            look_of_one = (
                look | {"details": details} | ({"marker": looks[variant]["marker"]} if len(steps) == 1 else {})
            )
            by_step.append(Series(variant, list(steps), list(100 * values), **look_of_one))
            if (elapsed := seconds(evidence, variant, steps)) is not None:
                at = [f"optimiser step: {step:,.0f}\n{whose}" for step, whose in zip(steps, details, strict=True)]
                by_time.append(Series(variant, list(elapsed), list(100 * values), **look_of_one | {"details": at}))
        steps, values = curve(evidence, variant, "loss", "train")
        if len(steps):
            details = told(runs(evidence, variant, "loss", "train"), lambda value: f"loss {significant(value)}")
            loss.append(Series(variant, list(steps), list(values), details=details, **look))
    panels = [Panel("Validation R@1 by step", "optimiser step", "R@1, text to image, %", by_step)]
    if by_time:
        panels.append(Panel("Validation R@1 by time", "training seconds", "R@1, text to image, %", by_time))
    panels.append(Panel("Training loss by step", "optimiser step", "loss", loss))
    ends = "; ".join(f"{s.name} ends at {s.y[-1]:.1f} % after {s.x[-1]:,.0f} steps" for s in by_step)
    caption = "Validation recall by brute force on un-pruned vectors, and training loss; the mean over seeds. Losses of different variants sum different parts and do not compare; their shapes do."
    return draw("learning", caption, f"Learning curves. R@1 on the validation split: {ends or 'not measured'}.", panels)


def table(evidence: Evidence, curves: dict) -> Table:
    columns = (
        Column("variant", "Variant"), Column("points", "validations", integer), Column("best", "best R@1 on val, %", percent),
        Column("best step", "at step", integer), Column("last", "R@1 at the last validation, %", percent), Column("last step", "at step", integer),
        Column("gain", "gain over the last quarter, points", lambda v: significant(100 * v)),
    )  # fmt: skip
    rows = []
    for variant, (steps, values) in curves.items():
        cells = {"variant": Cell(variant)}
        if len(steps):
            best = int(values.argmax())
            cells |= {
                "points": Cell(len(steps)), "best": Cell(float(values[best])), "best step": Cell(float(steps[best])),
                "last": Cell(float(values[-1])), "last step": Cell(float(steps[-1])), "gain": Cell(late_gain(steps, values)),
            }  # fmt: skip
        rows.append(cells)
    notes = ("A large gain over the last quarter says that the variant had not converged within its budget.",)
    return Table("learning", "Where each learning curve stood", columns, rows, notes)


def _has_loss(evidence: Evidence) -> bool:
    return any(len(curve(evidence, variant, "loss", "train")[0]) for variant in evidence.variants)
