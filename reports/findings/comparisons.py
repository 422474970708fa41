"""Paired differences between variants and the reference, with Holm's correction over the family of tests."""

import functools
from dataclasses import dataclass

from reports.records.evidence import UNTRAINED, Evidence
from reports.render.tables import NOT_APPLICABLE, Cell
from reports.statistics import corrections, intervals
from reports.statistics.intervals import Estimate

SIGNIFICANT, OF_ONE_SEED = "*", "(*)"
TESTED = ("recall@1", "recall@10")  # text to image, test split: the family that the correction covers
SPLIT, DIRECTION = "test", "text_to_image"


@dataclass(frozen=True)
class Test:
    """A variant minus the reference in one metric; `adjusted`: p-value after Holm's correction, None if untestable."""

    variant: str
    metric: str
    estimate: Estimate
    points: tuple[str, ...]
    adjusted: float | None
    significant: bool

    @property
    def of_one_seed(self) -> bool:
        """Whether only queries were resampled, so that variation between trainings is not covered."""
        return self.estimate.seeds < 2

    @property
    def mark(self) -> str:
        """Significance mark of the difference."""
        if not self.significant:
            return ""
        return OF_ONE_SEED if self.of_one_seed else SIGNIFICANT


def difference(
    evidence: Evidence, a: tuple[str, dict], b: tuple[str, dict], metric: str
) -> tuple[Estimate | None, tuple[str, ...]]:
    """(variant, filters) minus (variant, filters), paired by query and seed; and the points behind it."""
    sides = [evidence.measured(variant, metric, **filters) for variant, filters in (a, b)]
    points = [tuple(rows.point_id) for rows in sides]
    return _difference(evidence, *points, metric), points[0] + points[1]


@functools.lru_cache(maxsize=4096)
def _difference(evidence, points, reference, metric):
    first, second = evidence.outcomes(points, metric), evidence.outcomes(reference, metric)
    return None if first is None or second is None else intervals.difference(first, second)


def ablations(evidence: Evidence) -> list[str]:
    """Trained variants other than the reference and the baseline."""
    compared = (evidence.reading.reference, evidence.reading.baseline)
    return [name for name in evidence.variants if name not in compared and not name.startswith(UNTRAINED)]


@functools.lru_cache(maxsize=8)
def tests(evidence: Evidence) -> dict[tuple[str, str], Test]:
    """(variant, metric) -> its test against the reference at the operating points, for every other trained variant."""
    reference, found = evidence.reading.reference, []
    for variant in evidence.variants:
        if variant == reference or variant.startswith(UNTRAINED):
            continue
        for metric in TESTED:
            if (result := difference(evidence, *_sides(evidence, variant), metric))[0]:
                found.append((variant, metric, *result))
    p_values = {(variant, metric): e.p for variant, metric, e, _ in found if e.p is not None}
    adjusted = dict(zip(p_values, map(float, corrections.holm(list(p_values.values()))), strict=True))
    made = {}
    for variant, metric, estimate, points in found:
        p = adjusted.get((variant, metric))
        significant = p is not None and p < evidence.reading.significant
        made[variant, metric] = Test(variant, metric, estimate, points, p, significant)
    return made


def difference_cell(evidence: Evidence, variant: str, metric: str) -> Cell:
    """The difference to the reference, with its mark; without a mark for variants that were not trained here."""
    if variant == evidence.reading.reference:
        return Cell(NOT_APPLICABLE)
    test = tests(evidence).get((variant, metric))
    if test is None:
        filters = evidence.retrieval(SPLIT, DIRECTION) | evidence.operating_point(variant)
        missing = evidence.cell(variant, metric, **filters).missing or "no paired queries"
        return estimate_cell(*difference(evidence, *_sides(evidence, variant), metric), missing)
    e = test.estimate
    n = f"{paired_queries(e)}, {e.seeds} seed{'s' if e.seeds > 1 else ''}"
    return Cell(e.value, e.low, e.high, test.adjusted, test.mark, n, points=test.points)


def estimate_cell(estimate: Estimate | None, points: tuple[str, ...], missing: str) -> Cell:
    """A difference outside the tested family: interval, no mark."""
    if estimate is None:
        return Cell(missing=missing)
    return Cell(estimate.value, estimate.low, estimate.high, n=paired_queries(estimate), points=points)


def paired_queries(estimate: Estimate) -> str:
    """Sample size of a difference in words."""
    return f"{estimate.queries:,} paired queries of {estimate.groups:,} images"


def _sides(evidence: Evidence, variant: str) -> list[tuple[str, dict]]:
    """The variant and the reference with the filters of their operating points."""
    filters = evidence.retrieval(SPLIT, DIRECTION)
    return [(name, filters | evidence.operating_point(name)) for name in (variant, evidence.reading.reference)]
