"""Statistics of vectors, against values computed by hand."""

import numpy as np
import pytest

from bench.vectors.read import DenseVectors, LexiconVectors
from bench.vectors.statistics import describe, effective_vocabulary, own_items, zipf_exponent

DOCUMENTS = np.array([[3, 4, 0, 0], [0, 5, 0, 0], [3, 0, 4, 0], [0, 1, 0, 0]], np.float32)
QUERIES = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.float32)


def test_statistics_equal_values_worked_out_by_hand():
    documents = LexiconVectors.of(DOCUMENTS, list("abcd"))
    found = describe(documents, LexiconVectors.of(QUERIES, ["q", "r"], ["b", "c"]))
    assert (found["items"], found["dimension"], found["lexicons_used"]) == (4, 4, 3)
    assert (
        found["top_lexicon_share"] == 0.75
        and found["active_mean"] == 1.5
        and found["active_p99"] == pytest.approx(2, abs=0.01)
    )
    assert found["weight_rank_1"] == 3.5 and found["weight_rank_2"] == 1.5 and found["weight_rank_4"] == 0
    # nearest others: a to b or d 0.8, b and d to each other 1, c to a 9/25
    assert found["nearest_cosine"] == pytest.approx((0.8 + 1 + 0.36 + 1) / 4)
    assert found["query_document_overlap"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["own_cosine"] == pytest.approx((np.sqrt(0.5) + 0.6) / 2)
    assert found["place_1_cosine"] == pytest.approx((np.sqrt(0.5) + 0.6) / 2)
    # shares of documents: lexicon 0 a half, 1 three quarters, 2 a quarter
    assert found["query_random_overlap"] == pytest.approx((0.75 + 0.25 + 0.5) / 3)
    assert found["flops_per_pair"] == pytest.approx((0.75 + 0.25 + 0.5) / 2)
    assert 0 <= found["pair_cosine_mean"] <= 1 and found["pair_shared_lexicons"] in (0, 0.5, 1)


def test_dense_vectors_have_all_statistics_but_those_of_lexicons():
    found = describe(DenseVectors.of(DOCUMENTS, list("abcd")), DenseVectors.of(QUERIES, ["q", "r"], ["b", "c"]))
    sparse = describe(LexiconVectors.of(DOCUMENTS, list("abcd")), LexiconVectors.of(QUERIES, ["q", "r"], ["b", "c"]))
    assert found.keys() < sparse.keys() and "active_mean" not in found
    assert found == pytest.approx({name: sparse[name] for name in found})


def test_effective_vocabulary_of_equal_lexicons_is_their_number():
    assert effective_vocabulary(np.array([7, 0, 7, 7])) == pytest.approx(3)
    assert effective_vocabulary(np.zeros(4, int)) == 0


@pytest.mark.parametrize("exponent", [0.3, 0.7, 1.0])
def test_zipf_exponent_of_an_exact_power_law(exponent):
    frequency = np.random.default_rng(0).permutation(1e9 * np.arange(1.0, 2000) ** -exponent)
    assert zipf_exponent(frequency.astype(np.int64)) == pytest.approx(exponent, abs=1e-3)
    assert zipf_exponent(np.array([5, 0])) == 0


def test_queries_of_unknown_images_have_no_item():
    documents = LexiconVectors.of(DOCUMENTS, list("abcd"))
    assert own_items(documents, LexiconVectors.of(QUERIES, ["q", "r"], ["z", "d"])).tolist() == [-1, 3]


@pytest.mark.parametrize("kind", [LexiconVectors, DenseVectors])
def test_empty_vectors_have_only_a_count(kind):
    assert describe(kind.of(np.zeros((0, 5), np.float32)))["items"] == 0
