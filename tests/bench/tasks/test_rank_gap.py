"""Which queries two models disagree on most, against a search through all of them."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.rank_gap import SHOWN, furthest, paired

RANKS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 3.0, 7.0, math.inf]), st.sampled_from([1.0, 2.0, 5.0, 8.0, math.inf])),
    max_size=30,
)


def table(ranks, order) -> pd.DataFrame:
    return pd.DataFrame({"query_id": [f"q{i:02}" for i in order], "group": "image", "first": [ranks[i] for i in order]})


@settings(max_examples=20)
@given(RANKS, st.randoms(use_true_random=False))
def test_by_brute_force(ranks, random):
    """Queries in any order; an item that was not retrieved counts as rank depth + 1, of depths 10 and 8."""
    orders = [random.sample(range(len(ranks)), len(ranks)) for _ in range(2)]
    both = paired(*(table([pair[side] for pair in ranks], orders[side]) for side in range(2)), 10, 8)
    gaps = {f"q{i:02}": min(ours, 11) - min(theirs, 9) for i, (ours, theirs) in enumerate(ranks)}
    assert dict(zip(both.query_id, both.gap, strict=True)) == gaps
    for ours_lower, sign in ((True, 1), (False, -1)):
        worst = sorted(
            (query for query in gaps if sign * gaps[query] > 0), key=lambda query: (-sign * gaps[query], query)
        )[:SHOWN]
        found = furthest(both, ours_lower)
        assert found.query_id.tolist() == worst and found.apart.tolist() == [abs(gaps[query]) for query in worst]


def test_without_a_depth_the_largest_rank_replaces_it():
    both = paired(table([1.0, 4.0, math.inf], range(3)), table([1.0, 1.0, 2.0], range(3)), float("nan"), 10)
    assert both.gap.tolist() == [0, 3, 3]
    assert furthest(both, True).query_id.tolist() == ["q01", "q02"], "ties by query id"
    assert furthest(both, False).empty


def test_only_queries_of_both_are_compared():
    both = paired(table([1.0, 5.0], [0, 1]), table([1.0, 1.0, 1.0], [1, 2, 0]), 10, 10)
    assert both.query_id.tolist() == ["q00", "q01"] and both.gap.tolist() == pytest.approx([0, 4])
