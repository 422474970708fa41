"""Two searches query by query: whether their R@1 differs beyond chance, and by how much."""

import functools
from dataclasses import dataclass

from reports.findings.verdict import EQUAL_RECALL
from reports.records.evidence import Evidence
from reports.records.search import Search
from reports.statistics import intervals, sign_flip
from reports.statistics.intervals import Estimate


@dataclass(frozen=True)
class Paired:
    """`p` of the exact sign-flip test over groups of queries; None if no group differs."""

    p: float | None
    queries: int
    groups: int


@functools.lru_cache(maxsize=4096)
def test(evidence: Evidence | None, point: str, reference: str, metric: str = "recall@1") -> Paired | None:
    """Exact paired test of two points; None if their queries differ or per-query results were not kept."""
    found = [evidence.outcomes([each], metric) if evidence else None for each in (point, reference)]
    if any(outcomes is None for outcomes in found):
        return None
    one, other = (outcomes.set_index("query_id") for outcomes in found)
    if set(one.index) != set(other.index):
        return None
    differences = (one.outcome - other.outcome).groupby(one.group).sum()
    return Paired(sign_flip.p_value(differences.to_numpy()), len(one), len(differences))


@functools.lru_cache(maxsize=4096)
def difference(evidence: Evidence | None, point: str, reference: str, metric: str = "recall@1") -> Estimate | None:
    """`point` minus `reference` with its interval over images; None if per-query results were not kept."""
    found = [evidence.outcomes([each], metric) if evidence else None for each in (point, reference)]
    return None if any(outcomes is None for outcomes in found) else intervals.difference(*found)


def as_good(evidence: Evidence | None, one: Search, other: Search) -> bool:
    """Whether the R@1 of `one` equals or exceeds that of `other`.

    It counts as equal if it is lower by less than `EQUAL_RECALL` and the exact paired test shows no difference. Without
    the same queries, or without per-query results, it must be at least as high.
    """
    if one.recall is None or other.recall is None:
        return False
    if one.recall >= other.recall:
        return True
    if other.recall - one.recall >= EQUAL_RECALL:
        return False
    found = test(evidence, one.accuracy.point_id, other.accuracy.point_id)
    return found is not None and (found.p is None or found.p >= evidence.reading.significant)
