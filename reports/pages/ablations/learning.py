"""Learning curves of every variant, to see whether each had converged."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from reports.findings.convergence import curve, curves_by_seed, late_gain
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.figures import Figure, Panel, Series, draw, palette
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, significant

R1 = "R@1, text to image, %"
ROUNDING = 1e-12  # of a mean of shares


def section(evidence: Evidence) -> Section:
    curves = {variant: curve(evidence, variant, "recall@1", "val") for variant in evidence.variants}
    figures = [figure(evidence)] if any(len(x) for x, _ in curves.values()) or _has_loss(evidence) else []
    return Section("learning", "Learning curves", [table(curves)], figures, folder="ablations")


def point_details(grid: pd.DataFrame, written: Callable[[float], str]) -> list[str]:
    """Tooltip of each point of a curve: its seed, or the values of several seeds."""
    seeds = ["no seed" if seed < 0 else f"seed {seed:.0f}" for seed in grid.columns]
    if len(seeds) == 1:
        return seeds * len(grid)
    return [
        "mean of " + ", ".join(f"{seed} {written(value)}" for seed, value in zip(seeds, values, strict=True))
        for values in grid.to_numpy()
    ]


def seconds(evidence: Evidence, variant: str, steps: np.ndarray) -> np.ndarray | None:
    """Training seconds at each step; None if not recorded with the curve."""
    for split in ("val", "train"):
        at, values = curve(evidence, variant, "train_seconds", split)
        if len(at) > 1:
            return np.interp(steps, at, values)
    return None


def figure(evidence: Evidence) -> Figure:
    """Validation R@1 by step and by time, and training loss by step."""
    looks = palette(evidence.variants)
    strong = (evidence.reading.reference, evidence.reading.baseline)
    by_step, by_time, loss = [], [], []
    for variant in evidence.variants:
        look = looks[variant] | {"marker": "", "strong": variant in strong}
        steps, values = curve(evidence, variant, "recall@1", "val")
        if len(steps):
            grid = curves_by_seed(evidence, variant, "recall@1", "val")
            details = point_details(grid, lambda value: f"R@1 {percent(value)} %")
            marker = looks[variant]["marker"] if len(steps) == 1 else ""
            values = list(100 * values)
            by_step.append(Series(variant, list(steps), values, details=details, **look | {"marker": marker}))
            if (elapsed := seconds(evidence, variant, steps)) is not None:
                at = [f"optimiser step: {step:,.0f}\n{whose}" for step, whose in zip(steps, details, strict=True)]
                by_time.append(Series(variant, list(elapsed), values, details=at, **look | {"marker": marker}))
        steps, values = curve(evidence, variant, "loss", "train")
        if len(steps):
            grid = curves_by_seed(evidence, variant, "loss", "train")
            details = point_details(grid, lambda value: f"loss {significant(value)}")
            loss.append(Series(variant, list(steps), list(values), details=details, **look))
    panels = [Panel("Validation R@1 by step", "optimiser step", R1, by_step)]
    if by_time:
        panels.append(Panel("Validation R@1 by time", "training seconds", R1, by_time))
    panels.append(Panel("Training loss by step", "optimiser step", "loss", loss))
    ends = "; ".join(f"{s.name} ends at {s.y[-1]:.1f} % after {s.x[-1]:,.0f} steps" for s in by_step)
    caption = (
        "Validation recall by brute force on un-pruned vectors, and training loss; mean over seeds. Losses of "
        "different variants have different terms, so compare their shapes only."
    )
    return draw("learning", caption, f"Validation R@1: {ends or NOT_MEASURED}.", panels)


def table(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Table:
    """Best and last validation R@1 of each variant, and the gain over the last quarter."""
    columns = (
        Column("variant", "Variant"),
        Column("points", "Validations", integer),
        Column("best", "best", percent, "Validation R@1, %"),
        Column("best step", "at step", integer, "Validation R@1, %"),
        Column("last", "last", percent, "Validation R@1, %"),
        Column("last step", "at step", integer, "Validation R@1, %"),
        Column("gain", "Gain over the last quarter, points", _gain),
    )
    rows = []
    for variant, (steps, values) in curves.items():
        cells = {"variant": Cell(variant)}
        if len(steps):
            best = int(values.argmax())
            cells |= {"points": Cell(len(steps)), "gain": Cell(late_gain(steps, values))}
            for key, place in (("best", best), ("last", -1)):
                cells |= {key: Cell(float(values[place])), f"{key} step": Cell(float(steps[place]))}
        rows.append(cells)
    notes = ("A large gain over the last quarter: the variant had not converged.",)
    return Table("learning", "Validation R@1 during training", columns, rows, notes)


def _gain(value: float) -> str:
    """A gain in points; what is left of rounding is 0."""
    return significant(100 * value if abs(value) > ROUNDING else 0.0)


def _has_loss(evidence: Evidence) -> bool:
    return any(len(curve(evidence, variant, "loss", "train")[0]) for variant in evidence.variants)
