"""Where two models disagree most about the same queries: the rule that chooses failures, so that nobody picks them.

numpy and pandas alone: the measurement and the report both apply it, to the same ranks.
"""

import math

import pandas as pd

SHOWN = 5  # each way
RANK_GAP = "rank_gap"  # what the examples sidecar says of such a query


def paired(ours: pd.DataFrame, theirs: pd.DataFrame, our_depth: float, their_depth: float) -> pd.DataFrame:
    """The queries of both, with columns `first` and `first_baseline`, and `gap`, how many ranks further down ours has the right item.

    ours, theirs: columns query_id, group and first (rank of the first right item, infinite where it was not retrieved). An item that was not
    retrieved stands just below the last that was: `depth` results were asked for (NaN: as many as the lowest first rank).
    """
    both = ours.merge(theirs[["query_id", "first"]], on="query_id", suffixes=("", "_baseline"))
    return both.assign(gap=_finite(both["first"], our_depth) - _finite(both["first_baseline"], their_depth))


def furthest(both: pd.DataFrame, ours_lower: bool) -> pd.DataFrame:
    """Of paired queries those where one model ranks the right item furthest below the other, the largest difference first; of equals, the first by id."""
    one_way = both[both.gap > 0] if ours_lower else both[both.gap < 0]
    return (
        one_way.assign(apart=one_way.gap.abs()).sort_values(["apart", "query_id"], ascending=[False, True]).head(SHOWN)
    )


def _finite(first: pd.Series, depth: float) -> pd.Series:
    last = depth if depth == depth else first[first < math.inf].max()
    return first.where(first < math.inf, last + 1).astype(float)
