"""Selection of the queries on which two models disagree most: by rank gap, not by hand.

numpy and pandas only: both the measurement and the report apply the rule, to the same ranks.
"""

import math

import pandas as pd

SHOWN = 5  # queries per direction of the gap
RANK_GAP = "rank_gap"  # value of the examples column `chosen`


def paired(ours: pd.DataFrame, theirs: pd.DataFrame, our_depth: float, their_depth: float) -> pd.DataFrame:
    """The queries of both models, with columns `first`, `first_baseline` and `gap` (first - first_baseline).

    ours, theirs: columns query_id, group and first, the rank of the first relevant item (infinite if not retrieved).
    An item that was not retrieved counts as rank depth + 1; depth: results retrieved per query (NaN: the largest
    finite rank).
    """
    both = ours.merge(theirs[["query_id", "first"]], on="query_id", suffixes=("", "_baseline"))
    return both.assign(gap=_finite(both["first"], our_depth) - _finite(both["first_baseline"], their_depth))


def furthest(both: pd.DataFrame, ours_lower: bool) -> pd.DataFrame:
    """The `SHOWN` paired queries with the largest gap in one direction, ties by query id; column `apart`: |gap|.

    ours_lower: queries where our model ranks the relevant item further down; else those where the other model does.
    """
    one_way = both[both.gap > 0] if ours_lower else both[both.gap < 0]
    ordered = one_way.assign(apart=one_way.gap.abs()).sort_values(["apart", "query_id"], ascending=[False, True])
    return ordered.head(SHOWN)


def _finite(first: pd.Series, depth: float) -> pd.Series:
    last = depth if depth == depth else first[first < math.inf].max()
    return first.where(first < math.inf, last + 1).astype(float)
