"""Learning curves, which variants were still learning when training ended, and which did not train at all."""

import numpy as np
import pandas as pd

from reports.records.evidence import Evidence

DID_NOT_TRAIN = "did not train"
CONVERGED = 0.01  # of R@1: a variant that gains more in its last quarter had not converged


def curves_by_seed(evidence: Evidence, variant: str, metric: str, split: str) -> pd.DataFrame:
    """Values by step (rows) and seed (columns, −1 for none), at the steps that all seeds have."""
    rows = evidence.matching(variant, metric, task="training", split=split, direction=("text_to_image", ""))
    rows = rows[(rows.status == "ok") & np.isfinite(rows.value) & rows.step.notna()].sort_values("started")
    rows = rows.drop_duplicates(["seed", "step"], keep="last").assign(seed=lambda rows: rows.seed.fillna(-1))
    return rows.pivot(index="step", columns="seed", values="value").dropna().sort_index()


def curve(evidence: Evidence, variant: str, metric: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, the mean over seeds."""
    grid = curves_by_seed(evidence, variant, metric, split)
    return grid.index.to_numpy(float), grid.mean(axis=1).to_numpy(float)


def late_gain(steps: np.ndarray, values: np.ndarray, share: float = 0.25) -> float:
    """Gain of a curve over the last share of its steps."""
    return float(values[-1] - np.interp((1 - share) * steps[-1], steps, values))


def still_learning(evidence: Evidence) -> dict[str, float]:
    """Variant -> gain of validation R@1 over the last quarter, for those that gained more than `CONVERGED`."""
    curves = {variant: curve(evidence, variant, "recall@1", "val") for variant in evidence.variants}
    gains = {variant: late_gain(steps, values) for variant, (steps, values) in curves.items() if len(steps) > 1}
    return {variant: gain for variant, gain in gains.items() if gain > CONVERGED}


def did_not_train(evidence: Evidence, variant: str) -> str:
    """ "did not train", with the number of seeds if some did; "" if all did or R@1 was not measured.

    A training counts as none if its R@1 on the test gallery, at the operating point, is that of chance: the 95%
    interval over images reaches one relevant image among all. Vectors that collapsed to one point are at chance too.
    """
    filters = evidence.retrieval()
    rows = evidence.measured(variant, "recall@1", **filters, **evidence.operating_point(variant))
    lost = [point for point, value in zip(rows.point_id, rows.value, strict=True) if _at_chance(evidence, point, value)]
    if not lost:
        return ""
    return DID_NOT_TRAIN if len(lost) == len(rows) else f"{DID_NOT_TRAIN} in {len(lost)} of {len(rows)} seeds"


def _at_chance(evidence: Evidence, point: str, value: float) -> bool:
    estimate = evidence.interval((point,), "recall@1")
    low = value if estimate is None or estimate.low is None else estimate.low
    return low <= chance(evidence.retrieval()["images"])


def chance(images: float | None) -> float:
    """R@1 of a random order of the images, one of which is relevant; 0 if their number is unknown."""
    return 1 / images if images else 0.0
