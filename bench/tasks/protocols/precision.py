"""Metrics over all the relevant items of a query, for judgements that know more than one: as deep as the query has relevant items. numpy only.

Arguments as in `bench.tasks.evaluation`: `ranks` (for each query the 1-based ranks of its relevant items among the retrieved ones, ascending) and
`relevant` (for each query their number R, at least 1). What was retrieved must reach the largest R; relevant items beyond R do not count.
"""

from collections.abc import Sequence

import numpy as np


def r_precision(ranks: Sequence[Sequence[int]], relevant: Sequence[int]) -> float:
    """Share of the top R that is relevant, averaged over the queries."""
    return float(
        np.mean(
            [
                np.searchsorted(of_query, count, side="right") / count
                for of_query, count in zip(ranks, relevant, strict=True)
            ]
        )
    )


def map_at_r(ranks: Sequence[Sequence[int]], relevant: Sequence[int]) -> float:
    """mAP@R (Musgrave et al., 2020, arXiv 2003.08505): sum over the relevant items in the top R of the precision at their rank, over R;
    averaged over the queries. Not AP, which looks beyond R."""
    values = []
    for of_query, count in zip(ranks, relevant, strict=True):
        found = np.asarray(of_query)[: np.searchsorted(of_query, count, side="right")]
        values.append(float((np.arange(1, len(found) + 1) / found).sum() / count))
    return float(np.mean(values))
