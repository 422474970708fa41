"""Brute force over shards against all products at once; recall by scores."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.engines import exact
from bench.vectors.read import DenseVectors, LexiconVectors

LEXICONS = 7
IMPACTS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.just(LEXICONS)), elements=st.sampled_from([0, 0, 1, 3, 255])
)


def in_shards(rows, size):
    """Vectors in memory, in shards of `size` rows."""
    kind = LexiconVectors if sp.issparse(rows) else DenseVectors
    return kind([rows[start : start + size] for start in range(0, rows.shape[0], size)], rows.shape[1])


@given(documents=IMPACTS, queries=IMPACTS, k=st.integers(1, 15), size=st.integers(1, 12))
def test_best_scores_are_the_largest_products(documents, queries, k, size):
    best = exact.best_scores(in_shards(sp.csr_array(documents), size), sp.csr_array(queries), k)
    products = queries.astype(np.int64) @ documents.astype(np.int64).T
    for row, of_query in zip(best, products, strict=True):
        expected = sorted((score for score in of_query.tolist() if score > 0), reverse=True)[:k]
        assert row.tolist() == expected + [-np.inf] * (k - len(expected))


def test_dense_scores_may_be_negative():
    documents = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], np.float32)
    best = exact.best_scores(in_shards(documents, 2), np.array([[1.0, 0.5]], np.float32), 5)
    assert best.tolist() == [[1.0, 0.5, -1.0, -np.inf, -np.inf]]


def test_true_scores_of_given_ids():
    documents = sp.csr_array(np.array([[2, 0], [0, 3], [5, 5]], np.uint8))
    scores = exact.true_scores(
        in_shards(documents, 2), sp.csr_array(np.array([[200, 1]], np.uint8)), np.array([[2, 0, -1]])
    )
    assert scores.tolist() == [[1005.0, 400.0, -np.inf]]


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_recall_does_not_depend_on_the_length_of_the_vectors(scale):
    """A tolerance of 1e-5 used to hold for scores of any size: any result of short vectors was a right one."""
    rows = scale * np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    documents, queries, first = in_shards(rows, 64), rows[:5], np.tile(np.arange(10), (5, 1))
    best = exact.best_scores(documents, queries, 10)
    nearest = np.argsort(-queries @ rows.T, axis=1)[:, :10]
    assert exact.recall(exact.true_scores(documents, queries, nearest), best, 10) == 1.0
    assert exact.recall(exact.true_scores(documents, queries, first), best, 10) < 0.5


def test_a_float_score_that_happens_to_be_whole_has_a_tolerance_and_a_product_of_integers_none():
    below = np.array([[3.0, np.nextafter(np.float32(1), np.float32(0))]], np.float64)
    assert exact.recall(below, np.array([[3.0, 1.0]]), 2) == 1.0
    assert exact.recall(np.array([[3e6, 1e6 - 1]]), np.array([[3e6, 1e6]]), 2, whole=True) == 0.5


@pytest.mark.parametrize(
    ("found", "best", "expected"),
    [
        ([[9, 7]], [[9, 7]], 1.0),
        ([[7, 7]], [[9, 7]], 1.0),  # two items tie with the 2nd: both reach its score, though the one at 9 is missing
        ([[9, 6]], [[9, 7]], 0.5),
        ([[9, -np.inf]], [[9, -np.inf]], 1.0),
        ([[9, 7], [-np.inf, -np.inf]], [[9, 7], [4, 2]], 0.5),
        ([[-np.inf, -np.inf]], [[-np.inf, -np.inf]], 1.0),
        ([[0.5000001, 0.2499999]], [[0.5, 0.25]], 1.0),
        ([[0.5, 0.2499]], [[0.5, 0.25]], 0.5),
    ],
)
def test_recall_counts_scores_that_reach_the_kth(found, best, expected):
    assert exact.recall(np.array(found, float), np.array(best, float), 2) == expected


def test_integer_scores_keep_all_their_bits():
    """Scores of 16-bit impacts exceed 2**24; rounded to float32, the best one could exceed every engine's result."""
    documents = sp.csr_array(np.array([[40_001, 3], [40_003, 1], [9, 9]], np.uint16))
    queries = sp.csr_array(np.array([[60_001, 1]], np.uint16))
    best = exact.best_scores(in_shards(documents, 2), queries, 2)
    assert best.tolist() == [[40_003 * 60_001 + 1, 40_001 * 60_001 + 3]]
    assert (
        exact.recall(exact.true_scores(in_shards(documents, 2), queries, np.array([[1, 0]])), best, 2, whole=True)
        == 1.0
    )
