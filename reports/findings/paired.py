"""Two searches query by query: whether chance tells them apart, and by how much they differ."""

import functools
from dataclasses import dataclass

from reports.records.evidence import Evidence
from reports.statistics import sign_flip, significance
from reports.statistics.significance import Estimate


@dataclass(frozen=True)
class Paired:
    """`p` of the exact paired test over groups of queries (`reports.statistics.sign_flip`), None where no group differs."""

    p: float | None
    queries: int
    groups: int


@functools.lru_cache(maxsize=4096)
def test(evidence: Evidence | None, point: str, reference: str, metric: str = "recall@1") -> Paired | None:
    """None where the two were not asked the same queries, or the results of each were not kept."""
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
    """`point` minus `reference` with its bootstrap interval; None where the results of each query were not kept."""
    found = [evidence.outcomes([each], metric) if evidence else None for each in (point, reference)]
    return None if any(outcomes is None for outcomes in found) else significance.difference(*found)
