"""`impact` (and `scipy`, the baseline) return exactly what brute force does, ties included."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import engines
from bench.engines import ranking
from bench.engines.lexicon import impact
from bench.engines.lexicon.impact_kernels import BLOCK, DENSE_FROM
from bench.vectors.impacts import Impacts
from bench.vectors.read import LexiconVectors
from models.errors import InputError
from tests.bench.engines.small import brute_force, products

LEXICONS = 9
UNSIGNED = {8: np.uint8, 16: np.uint16}


def built(engine_name, vectors, folder):
    engine = engines.get(engine_name)
    engine.build(vectors, Path(folder))
    return engines.get(engine_name).open(Path(folder))


def search_impacts(engine_name, documents, queries, k, threads=1):
    with tempfile.TemporaryDirectory() as folder, built(engine_name, LexiconVectors.of(documents), folder) as engine:
        first = engine.search(sp.csr_array(queries), k, threads)
        second = engine.search(sp.csr_array(queries), k, threads)
        assert np.array_equal(first[0], second[0]), "a search must not change the next one"
        return first


def impact_matrices(bits):
    values = st.sampled_from([0, 0, 0, 1, 2, 100, 2**bits - 1])
    return hnp.arrays(UNSIGNED[bits], st.tuples(st.integers(0, 12), st.just(LEXICONS)), elements=values)


FULL = np.full((3, LEXICONS), 255, np.uint8)
EYE = np.eye(LEXICONS, dtype=np.uint8)


@pytest.mark.parametrize("name", ["impact", "scipy"])
@pytest.mark.parametrize("bits", [8, 16])
@given(data=st.data(), k=st.integers(0, 15), threads=st.sampled_from([1, 2]))
def test_results_equal_brute_force(name, bits, data, k, threads):
    documents, queries = data.draw(impact_matrices(bits)), data.draw(impact_matrices(bits))
    ids, scores = search_impacts(name, documents, queries, k, threads)
    expected_ids, expected_scores = brute_force(products(queries, documents), k, positive=True)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected_scores)
    assert (ids.dtype, scores.dtype, ids.shape) == (np.int64, np.float32, (len(queries), k))


@pytest.mark.parametrize("name", ["impact", "scipy"])
@pytest.mark.parametrize(
    ("documents", "queries", "k"),
    [
        pytest.param(FULL, FULL, 2, id="all tied, all at 255"),
        pytest.param(EYE, np.zeros((2, LEXICONS), np.uint8), 3, id="empty queries"),
        pytest.param(np.zeros((4, LEXICONS), np.uint8), FULL, 3, id="empty documents"),
        pytest.param(np.zeros((0, LEXICONS), np.uint8), FULL, 3, id="no document"),
        pytest.param(EYE[:1], FULL, 1, id="one document"),
        pytest.param(EYE, EYE[:0], 3, id="no query"),
        pytest.param(EYE, FULL, 50, id="k beyond the documents"),
        pytest.param(np.maximum(EYE, EYE[[0]]), EYE[[0]], 4, id="a lexicon in every document"),
        pytest.param(np.tile(EYE, (400, 1)), FULL[:1], 100, id="ties across blocks of the scan"),
        pytest.param(np.tile(FULL, (1500, 1)), np.vstack([EYE[[2]], FULL[:1]]), 1500, id="ties across many blocks"),
    ],
)
def test_edge_cases(name, documents, queries, k):
    ids, scores = search_impacts(name, documents, queries, k)
    expected = brute_force(products(queries, documents), k, positive=True)
    assert np.array_equal(ids, expected[0])
    assert np.array_equal(scores, expected[1])


@pytest.mark.parametrize(
    ("bits", "width", "accumulator"),
    [(8, 1, np.uint16), (8, 2, np.uint32), (16, 1, np.uint32), (16, 2, np.uint64), (8, 4000, np.uint32)],
)
def test_accumulators_are_as_narrow_as_scores_allow(bits, width, accumulator, tmp_path):
    """One document and query of `width` lexicons at the largest weight: width x (2**bits - 1)**2 must not overflow."""
    rows = np.full((1, width), 2**bits - 1, UNSIGNED[bits])
    with built("impact", LexiconVectors.of(rows), tmp_path) as engine:
        _, scores = engine.search(sp.csr_array(rows), 1)
        assert list(engine._free) == [accumulator]
    assert scores[0, 0] == np.float32(width * (2**bits - 1) ** 2)


def test_scores_over_64_bits_are_refused(tmp_path):
    with built("impact", LexiconVectors.of(np.full((1, 1), 65535, np.uint16)), tmp_path) as engine:
        engine.longest = 2**100
        with pytest.raises(InputError, match="smaller scale"):
            engine.search(sp.csr_array(np.full((1, 1), 65535, np.uint16)), 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_many_queries_and_threads(tmp_path, threads):
    rng = np.random.default_rng(0)
    documents = sp.random(3000, 50, 0.1, "csr", rng=rng, dtype=np.float32)
    queries = sp.random(211, 50, 0.1, "csr", rng=rng, dtype=np.float32)
    documents, queries = (Impacts(LexiconVectors.of(rows), bits=8) for rows in (documents, queries))
    with built("impact", documents, tmp_path) as engine:
        ids, scores = engine.search(queries.to_scipy(), 10, threads)
    products = (queries.to_scipy().astype(np.int64) @ documents.to_scipy().astype(np.int64).T).toarray()
    expected = ranking.top_k(products, 10, positive=True)
    assert np.array_equal(ids, expected[0]) and np.array_equal(scores, expected[1])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5])
def test_document_counts_around_the_block_size(tmp_path, monkeypatch, count, bits):
    """Lists of every density, all differences of impacts, ties within and across blocks, threads over both."""
    monkeypatch.setattr(impact, "BLOCKS_PER_SLICE", 1)
    rng = np.random.default_rng(count + bits)
    largest = 2**bits - 1
    documents = np.zeros((count, 7), UNSIGNED[bits])
    documents[:, 0] = rng.choice([1, 2, largest], count)
    for lexicon, share in enumerate((0.3, 0.05, 0.0005), start=1):
        documents[:, lexicon] = np.where(rng.random(count) < share, rng.integers(1, largest + 1, count), 0)
    documents[: DENSE_FROM - 1, 4] = documents[-DENSE_FROM:, 5] = 7
    queries = np.vstack([np.eye(7), np.ones(7), [0, 1, largest, 2, 0, 3, 0]]).astype(UNSIGNED[bits])
    products = queries.astype(np.int64) @ documents.astype(np.int64).T
    with built("impact", LexiconVectors.of(documents), tmp_path) as engine:
        for k in (1, 30):
            expected = ranking.top_k(products, k, positive=True)
            for threads in (1, 2, 20):
                found = [engine.search(sp.csr_array(queries[i : i + 1]), k, threads) for i in range(len(queries))]
                for ids, scores in (
                    engine.search(sp.csr_array(queries), k, threads),
                    [np.concatenate(part) for part in zip(*found, strict=True)],
                ):
                    assert np.array_equal(ids, expected[0]) and np.array_equal(scores, expected[1])
        everything, nothing = engine.touched_bytes(sp.csr_array(np.array([[1], [0]], np.uint8).repeat(7, axis=1)))
        assert (everything, nothing) == (engine.postings.nbytes, 0)


def test_bytes_of_a_posting(tmp_path):
    """Sparse: two, and two for each filler. Dense: one byte per document of the block."""
    documents = np.zeros((BLOCK, 4), np.uint8)
    documents[:, 0], documents[:100, 1], documents[:2, 2] = 9, 9, (1, 4)  # a difference of 3 takes two steps
    with built("impact", LexiconVectors.of(documents), tmp_path) as engine:
        assert engine.touched_bytes(sp.csr_array(np.eye(4, dtype=np.uint8))).tolist() == [BLOCK, 2 * 100, 2 * 3, 0]


@pytest.mark.parametrize(
    "break_offsets", [lambda offsets: offsets[::-1], lambda offsets: offsets + 1, lambda offsets: offsets[1:]]
)
def test_inconsistent_offsets_are_refused(tmp_path, break_offsets):
    with built("impact", LexiconVectors.of(EYE), tmp_path) as engine:
        np.save(tmp_path / "offsets.npy", break_offsets(engine.offsets))
    with pytest.raises(InputError, match="do not match their offsets"):
        engines.get("impact").open(tmp_path)


def test_unsupported_dtypes_are_refused(tmp_path):
    with pytest.raises(InputError, match="quantise them"):
        engines.get("impact").build(LexiconVectors.of(np.ones((2, 3), np.float32)), tmp_path)
    with built("impact", LexiconVectors.of(EYE), tmp_path) as engine:
        with pytest.raises(ValueError, match="expected unsigned integers over 9"):
            engine.search(sp.csr_array(np.ones((1, LEXICONS), np.float32)), 1)
        with pytest.raises(ValueError, match="over 3 lexicons"):
            engine.search(sp.csr_array(np.ones((1, 3), np.uint8)), 1)


def test_scipy_over_float_weights(tmp_path):
    rng = np.random.default_rng(1)
    documents, queries = (
        np.where(rng.random((n, 30)) < 0.2, rng.random((n, 30)), 0).astype(np.float32) for n in (200, 40)
    )
    with built("scipy", LexiconVectors.of(documents), tmp_path) as engine:
        ids, scores = engine.search(sp.csr_array(queries), 10)
    expected = brute_force(queries.astype(np.float64) @ documents.T.astype(np.float64), 10, positive=True)
    assert np.array_equal(ids, expected[0])
    assert scores == pytest.approx(expected[1], rel=1e-5)
