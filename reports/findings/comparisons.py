"""Paired differences between variants, and which of them stand after correction for the number of tests."""

import functools
from dataclasses import dataclass

from reports.records.evidence import UNTRAINED, Evidence
from reports.render.tables import NOT_APPLICABLE, Cell
from reports.statistics import significance
from reports.statistics.significance import Estimate

SIGNIFICANT, OF_ONE_SEED = "*", "(*)"
TESTED = ("recall@1", "recall@10")  # text to image, test split: the family that Holm's correction covers
SPLIT, DIRECTION = "test", "text_to_image"


@dataclass(frozen=True)
class Test:
    """A variant minus the reference in one metric; `adjusted` is the p-value after Holm, None where no test was possible."""

    variant: str
    metric: str
    estimate: Estimate
    points: tuple[str, ...]
    adjusted: float | None
    significant: bool

    @property
    def of_one_seed(self) -> bool:
        """Whether queries alone were resampled, so that chance in training is not in it."""
        return self.estimate.seeds < 2

    @property
    def mark(self) -> str:
        if not self.significant:
            return ""
        return OF_ONE_SEED if self.of_one_seed else SIGNIFICANT


def difference(
    evidence: Evidence, a: tuple[str, dict], b: tuple[str, dict], metric: str
) -> tuple[Estimate | None, tuple[str, ...]]:
    """(variant, filters) minus (variant, filters), paired by query and by seed, and the points behind it."""
    sides = [evidence.measured(variant, metric, **filters) for variant, filters in (a, b)]
    points = [tuple(rows.point_id) for rows in sides]
    return _difference(evidence, *points, metric), points[0] + points[1]


@functools.lru_cache(maxsize=4096)
def _difference(evidence, points, reference, metric):
    first, second = evidence.outcomes(points, metric), evidence.outcomes(reference, metric)
    return None if first is None or second is None else significance.difference(first, second)


@functools.lru_cache(maxsize=8)
def tests(evidence: Evidence) -> dict[tuple[str, str], Test]:
    """(variant, metric) -> its test against the reference at the operating points, for every variant that was trained but the reference itself."""
    reference = evidence.reading.reference
    filters = evidence.retrieval(SPLIT, DIRECTION)
    found = []
    for variant in (name for name in evidence.variants if name != reference and not name.startswith(UNTRAINED)):
        for metric in TESTED:
            sides = [(name, filters | evidence.operating_point(name)) for name in (variant, reference)]
            if (result := difference(evidence, *sides, metric))[0]:
                found.append((variant, metric, *result))
    testable = [item for item in found if item[2].p is not None]
    adjusted = dict(
        zip([item[:2] for item in testable], significance.holm([item[2].p for item in testable]), strict=True)
    )
    return {
        (variant, metric): Test(
            variant, metric, estimate, points,
            adjusted=None if (p := adjusted.get((variant, metric))) is None else float(p),
            significant=p is not None and p < evidence.reading.significant,
        )
        for variant, metric, estimate, points in found
    }  # fmt: skip


def difference_cell(evidence: Evidence, variant: str, metric: str) -> Cell:
    """The difference to the reference, marked when it is significant; without a mark for what was not trained here, and so is no ablation."""
    if variant == evidence.reading.reference:
        return Cell(NOT_APPLICABLE)
    test = tests(evidence).get((variant, metric))
    if test is None:
        filters = evidence.retrieval(SPLIT, DIRECTION)
        missing = (
            evidence.cell(variant, metric, **filters, **evidence.operating_point(variant)).missing
            or "no paired queries"
        )
        sides = [(name, filters | evidence.operating_point(name)) for name in (variant, evidence.reading.reference)]
        return estimate_cell(*difference(evidence, *sides, metric), missing)
    e = test.estimate
    n = f"{e.queries:,} paired queries of {e.groups:,} images, {e.seeds} seed{'s' if e.seeds > 1 else ''}"
    return Cell(e.value, e.low, e.high, test.adjusted, test.mark, n, points=test.points)


def estimate_cell(estimate: Estimate | None, points: tuple[str, ...], missing: str) -> Cell:
    """A difference outside the tested family: interval, no mark."""
    if estimate is None:
        return Cell(missing=missing)
    return Cell(
        estimate.value,
        estimate.low,
        estimate.high,
        n=f"{estimate.queries:,} paired queries of {estimate.groups:,} images",
        points=points,
    )
