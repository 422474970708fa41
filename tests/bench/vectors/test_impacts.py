import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.vectors.impacts import Impacts, prune, quantise, unit_again
from bench.vectors.read import LexiconVectors

# few distinct values, so that ties are common
MATRICES = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 6), st.integers(1, 12)), elements=st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])
)


LONGER = MATRICES.map(lambda rows: 2 * rows + (rows > 0))  # no row of unit length


@given(LONGER, st.one_of(st.none(), st.integers(1, 13)))
def test_prune_keeps_the_largest_weights_with_ties_to_lower_ids(rows, top_k):
    expected = np.zeros_like(rows)
    for row, kept in zip(rows, expected, strict=True):
        best = sorted(np.flatnonzero(row), key=lambda lexicon: (-row[lexicon], lexicon))[:top_k]
        kept[best] = row[best]
    pruned = prune(sp.csr_array(rows), top_k)
    assert np.array_equal(pruned.toarray(), expected)
    assert pruned.nnz == np.count_nonzero(expected)
    assert all(np.all(np.diff(pruned.indices[a:b]) > 0) for a, b in zip(pruned.indptr, pruned.indptr[1:], strict=False))


def test_pruned_unit_rows_are_unit_rows_again_and_others_keep_their_weights():
    rows = sp.csr_array(np.array([[0.48, 0.6, 0.64, 0], [0, 0, 0, 1], [3, 4, 1, 0], [0, 0, 0, 0]], np.float32))
    pruned = prune(rows, 2)
    length = np.hypot(0.6, 0.64)
    by_hand = [[0, 0.6 / length, 0.64 / length, 0], [0, 0, 0, 1], [3, 4, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(pruned.toarray(), by_hand, rtol=1e-6)
    assert pruned.dtype == np.float32
    assert np.array_equal(unit_again(rows, rows).toarray(), rows.toarray()), "nothing was cut"


@given(MATRICES, st.integers(1, 5), st.sampled_from([np.float16, np.float32]))
def test_pruning_keeps_unit_length_at_any_precision(rows, top_k, dtype):
    rows = rows[rows.any(axis=1)]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype).astype(np.float32)
    pruned = prune(sp.csr_array(rows), top_k).toarray()
    np.testing.assert_allclose(np.linalg.norm(pruned, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert (np.argsort(-pruned, axis=1, kind="stable")[:, 0] == rows.argmax(axis=1)).all(), "the order of weights stays"


@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 6), st.integers(1, 12))), st.integers(1, 5))
def test_pruned_integers_keep_their_values(rows, top_k):
    """Squares of 8 bits overflow, so that a row of any length could seem to have length 1."""
    pruned = prune(sp.csr_array(rows), top_k).toarray()
    assert pruned.dtype == np.uint8 and np.array_equal(pruned[pruned > 0], rows[pruned > 0])


def test_prune_refuses_less_than_one():
    with pytest.raises(ValueError, match="top_k 0"):
        prune(sp.csr_array(np.ones((1, 2), np.float32)), 0)


def test_quantise_rounds_half_to_even_drops_zeros_and_saturates():
    weights = np.array([[0.004, 0.005, 0.006, 0.015, 0.5, 1.0, 2.54, 2.56, 1000.0]], np.float32)
    eight = quantise(sp.csr_array(weights))
    assert eight.dtype == np.uint8
    assert eight.indices.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert eight.data.tolist() == [1, round(float(np.float32(100) * np.float32(0.015))), 50, 100, 254, 255, 255]
    sixteen = quantise(sp.csr_array(weights), bits=16)
    assert sixteen.dtype == np.uint16 and sixteen.data.tolist()[-2:] == [256, 65535]
    assert quantise(sp.csr_array(np.array([[0.5, 1.5, 2.5]], np.float32)), scale=1).data.tolist() == [2, 2]
    with pytest.raises(ValueError, match="bits 4"):
        quantise(sp.csr_array(weights), bits=4)


@given(MATRICES, st.sampled_from([8, 16]), st.sampled_from([0.5, 1.0, 100.0, 1000.0]))
def test_quantise_is_rint(rows, bits, scale):
    expected = np.minimum(np.rint(np.float32(scale) * rows), 2**bits - 1)
    assert np.array_equal(quantise(sp.csr_array(rows), scale, bits).toarray(), expected)


def test_impacts_apply_both_steps_per_shard_without_changing_the_vectors():
    rows = np.array([[0.9, 0.001, 0.3], [0.2, 0.8, 0.1]], np.float32)
    vectors = LexiconVectors([sp.csr_array(rows[:1]), sp.csr_array(rows[1:])], 3)
    impacts = Impacts(vectors, top_k=2, bits=8)
    assert impacts.to_scipy().toarray().tolist() == [[90, 0, 30], [20, 80, 0]]
    assert [shard.toarray().tolist() for shard in impacts.shards()] == [[[90, 0, 30]], [[20, 80, 0]]]
    assert impacts.head(1).to_scipy().toarray().tolist() == [[90, 0, 30]]
    assert (impacts.count, impacts.dimension, impacts.dtype) == (2, 3, np.uint8)
    assert np.array_equal(Impacts(vectors).to_scipy().toarray(), rows)


def test_pruned_rows_take_four_bytes_a_lexicon():
    """scipy copies lexicons to the type of the pointers: 64-bit pointers doubled what a stored index takes."""
    rows = sp.random_array((50, 40), density=0.5, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
    rows.sort_indices()
    pruned = prune(rows, 4)
    assert pruned.indices.dtype == pruned.indptr.dtype == np.int32 and pruned.indices.nbytes == 4 * pruned.nnz
