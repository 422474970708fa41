"""Paired differences between variants and the reference, in three families.

Main: R@1 of each variant with at least three seeds, the question that the variants were trained for. Exploratory:
other metrics of these. Each has Holm's correction of its own. Screened: variants with fewer seeds; their intervals do
not say what another training would show, so nothing is tested. A variant that did not train has no difference, and
tables have none where the reference has more seeds: its value there is of other trainings than the difference.
"""

import functools
from dataclasses import dataclass, replace

from reports.findings import convergence
from reports.records.evidence import UNTRAINED, Evidence
from reports.render.tables import NOT_APPLICABLE, Cell
from reports.statistics import corrections, intervals
from reports.statistics.intervals import Estimate

SIGNIFICANT = "*"
FEWER = "fewer seeds"
NOTE = f"{SIGNIFICANT} significant after Holm's correction, with at least {intervals.LEAST_SEEDS} seeds."
MAIN, EXPLORATORY, SCREENED = FAMILIES = ("main", "exploratory", "screened")
TESTED = ("recall@1", "recall@10")  # text to image, test split; the first is the main one
SPLIT, DIRECTION = "test", "text_to_image"


@dataclass(frozen=True)
class Test:
    """A variant minus the reference in one metric.

    adjusted: p-value after Holm's correction within the family; None for the screened. detectable: the least
    difference that the test finds with a probability of 80%, whatever the other tests of its family show.
    """

    variant: str
    metric: str
    estimate: Estimate
    points: tuple[str, ...]
    adjusted: float | None
    significant: bool
    family: str
    detectable: float | None = None

    @property
    def mark(self) -> str:
        """Significance mark of the difference."""
        return SIGNIFICANT if self.significant else ""

    @property
    def group(self) -> str:
        """The family in words, such as "screened with one seed"."""
        if self.family != SCREENED:
            return self.family
        return f"{SCREENED} with {'one seed' if self.estimate.seeds == 1 else f'{self.estimate.seeds} seeds'}"


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


@functools.lru_cache(maxsize=8)
def tests(evidence: Evidence) -> dict[tuple[str, str], Test]:
    """(variant, metric) -> its difference to the reference at the operating points, for every variant that trained."""
    reference, found = evidence.reading.reference, []
    for variant in evidence.variants:
        if variant == reference or variant.startswith(UNTRAINED) or not_trained(evidence, variant):
            continue
        for metric in TESTED:
            estimate, points = difference(evidence, *_sides(evidence, variant), metric)
            if estimate is not None:
                found.append(Test(variant, metric, estimate, points, None, False, _family(metric, estimate)))
    return {(test.variant, test.metric): test for test in _corrected(found, evidence.reading.significant)}


def _family(metric: str, estimate: Estimate) -> str:
    if not estimate.is_tested:
        return SCREENED
    return MAIN if metric == TESTED[0] else EXPLORATORY


def _corrected(found: list[Test], level: float) -> list[Test]:
    """The tests with p-values corrected within each family."""
    made = [test for test in found if test.family == SCREENED]
    for family in (MAIN, EXPLORATORY):
        mine = [test for test in found if test.family == family]
        for test, p in zip(mine, corrections.holm([test.estimate.p for test in mine]), strict=True):
            detectable = test.estimate.detectable(level / len(mine))
            made.append(replace(test, adjusted=float(p), significant=bool(p < level), detectable=detectable))
    places = {(test.variant, test.metric): place for place, test in enumerate(found)}
    return sorted(made, key=lambda test: places[test.variant, test.metric])


def not_trained(evidence: Evidence, variant: str) -> str:
    """Which of a variant and the reference did not train, in words; "" if both did."""
    reference = evidence.reading.reference
    if mine := convergence.did_not_train(evidence, variant):
        return mine
    of_reference = convergence.did_not_train(evidence, reference)
    return f"{reference} {of_reference}" if of_reference else ""


def difference_cell(evidence: Evidence, variant: str, metric: str) -> Cell:
    """The difference to the reference with its mark; no mark if nothing was tested.

    None for a variant that did not train, and for one with fewer seeds than the reference.
    """
    if variant == evidence.reading.reference:
        return Cell(NOT_APPLICABLE)
    if why := not_trained(evidence, variant):
        return Cell(missing=why)
    test = tests(evidence).get((variant, metric))
    if test is None:
        filters = evidence.retrieval(SPLIT, DIRECTION) | evidence.operating_point(variant)
        missing = evidence.cell(variant, metric, **filters).missing or "no paired queries"
        return estimate_cell(*difference(evidence, *_sides(evidence, variant), metric), missing)
    e = test.estimate
    if test.family == SCREENED and e.seeds < len(evidence.seeds(evidence.reading.reference)):
        return Cell(missing=FEWER)
    n = f"{paired_queries(e)}, {e.seeds} seed{'s' if e.seeds > 1 else ''}"
    return Cell(e.value, e.low, e.high, test.adjusted, test.mark, n, points=test.points)


def detectable_cell(evidence: Evidence, variant: str, metric: str) -> Cell:
    """The least difference that the test finds with a probability of 80%; a dash where nothing was tested."""
    test = tests(evidence).get((variant, metric))
    if test is None or test.detectable is None:
        return Cell(NOT_APPLICABLE)
    return Cell(test.detectable, points=test.points)


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
