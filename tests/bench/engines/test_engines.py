"""Every registered engine keeps the contract; the exact ones equal brute force, ties included."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import engines
from bench.engines import ranking
from bench.engines.indexes import build_index
from bench.engines.lexicon import impact
from bench.engines.lexicon.impact_kernels import BLOCK, DENSE_FROM
from bench.vectors.impacts import Impacts
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import AbsentError, InputError

LEXICONS = 9
UNSIGNED = {8: np.uint8, 16: np.uint16}


def brute_force(scores, k, positive):
    """ids and scores by sorting everything with Python's own sort."""
    ids, best = np.full((len(scores), k), -1), np.full((len(scores), k), -np.inf, np.float32)
    for row, of_row in enumerate(scores):
        order = [i for i in sorted(range(len(of_row)), key=lambda i: (-of_row[i], i)) if of_row[i] > 0 or not positive][
            :k
        ]
        ids[row, : len(order)], best[row, : len(order)] = order, of_row[order]
    return ids, best


def built(engine_name, vectors, folder):
    engine = engines.get(engine_name)
    engine.build(vectors, Path(folder))
    return engines.get(engine_name).open(Path(folder))


def search_impacts(engine_name, documents, queries, k, threads=1):
    with tempfile.TemporaryDirectory() as folder, built(engine_name, LexiconVectors.of(documents), folder) as engine:
        first = engine.search(sp.csr_array(queries), k, threads)
        second = engine.search(sp.csr_array(queries), k, threads)
        assert np.array_equal(first[0], second[0]), "a search must leave nothing behind"
        return first


def impact_matrices(bits):
    values = st.sampled_from([0, 0, 0, 1, 2, 100, 2**bits - 1])
    return hnp.arrays(UNSIGNED[bits], st.tuples(st.integers(0, 12), st.just(LEXICONS)), elements=values)


FULL = np.full((3, LEXICONS), 255, np.uint8)
EYE = np.eye(LEXICONS, dtype=np.uint8)


@pytest.mark.parametrize("name", ["impact", "scipy"])
@pytest.mark.parametrize("bits", [8, 16])
@given(data=st.data(), k=st.integers(0, 15), threads=st.sampled_from([1, 2]))
def test_impacts_equal_brute_force(name, bits, data, k, threads):
    documents, queries = data.draw(impact_matrices(bits)), data.draw(impact_matrices(bits))
    ids, scores = search_impacts(name, documents, queries, k, threads)
    expected_ids, expected_scores = brute_force(
        queries.astype(np.int64) @ documents.astype(np.int64).T, k, positive=True
    )
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
def test_adversarial_cases(name, documents, queries, k):
    ids, scores = search_impacts(name, documents, queries, k)
    expected = brute_force(queries.astype(np.int64) @ documents.astype(np.int64).T, k, positive=True)
    assert np.array_equal(ids, expected[0])
    assert np.array_equal(scores, expected[1])


@pytest.mark.parametrize(
    ("bits", "width", "accumulator"),
    [(8, 1, np.uint16), (8, 2, np.uint32), (16, 1, np.uint32), (16, 2, np.uint64), (8, 4000, np.uint32)],
)
def test_accumulators_are_as_wide_as_the_scores_may_be(bits, width, accumulator, tmp_path):
    """One document and query of `width` lexicons at the largest weight: width x (2**bits - 1)**2 must not wrap."""
    rows = np.full((1, width), 2**bits - 1, UNSIGNED[bits])
    with built("impact", LexiconVectors.of(rows), tmp_path) as engine:
        _, scores = engine.search(sp.csr_array(rows), 1)
        assert list(engine._free) == [accumulator]
    assert scores[0, 0] == np.float32(width * (2**bits - 1) ** 2)


def test_scores_beyond_64_bits_are_refused_not_wrapped(tmp_path):
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
def test_blocks_of_documents(tmp_path, monkeypatch, count, bits):
    """Lists of every density in every block, all falls between impacts, ties within blocks and across them, queries and blocks on threads."""
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


def test_a_posting_takes_two_bytes(tmp_path):
    """One byte a document of the block in a dense list; more only where the impacts of a list fall steeply."""
    documents = np.zeros((BLOCK, 4), np.uint8)
    documents[:, 0], documents[:100, 1], documents[:2, 2] = 9, 9, (1, 4)  # a fall of 3 takes two steps
    with built("impact", LexiconVectors.of(documents), tmp_path) as engine:
        assert engine.touched_bytes(sp.csr_array(np.eye(4, dtype=np.uint8))).tolist() == [BLOCK, 2 * 100, 2 * 3, 0]


@pytest.mark.parametrize(
    "break_offsets", [lambda offsets: offsets[::-1], lambda offsets: offsets + 1, lambda offsets: offsets[1:]]
)
def test_offsets_that_do_not_fit_are_refused(tmp_path, break_offsets):
    with built("impact", LexiconVectors.of(EYE), tmp_path) as engine:
        np.save(tmp_path / "offsets.npy", break_offsets(engine.offsets))
    with pytest.raises(InputError, match="do not fit their offsets"):
        engines.get("impact").open(tmp_path)


def test_impact_refuses_what_it_cannot_search(tmp_path):
    with pytest.raises(InputError, match="quantise them"):
        engines.get("impact").build(LexiconVectors.of(np.ones((2, 3), np.float32)), tmp_path)
    with built("impact", LexiconVectors.of(EYE), tmp_path) as engine:
        with pytest.raises(ValueError, match="expected unsigned over 9"):
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


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    st.integers(1, 15),
)
@example(np.ones((5, 4), np.float32), np.ones((1, 4), np.float32), 3)
def test_faiss_flat_equals_brute_force(documents, queries, k):
    """Values whose products are exact in float32. At a tie for the k-th place FAISS chooses the document, so scores are compared there."""
    with tempfile.TemporaryDirectory() as folder, built("faiss-flat", DenseVectors.of(documents), folder) as engine:
        found = {blas_from: engine.search(queries, k, blas_from=blas_from) for blas_from in (1, 1000)}
    products = queries.astype(np.float64) @ documents.T.astype(np.float64)
    expected_ids, expected_scores = brute_force(products, k, positive=False)
    for ids, scores in found.values():
        assert np.array_equal(scores, expected_scores)
        for row in range(len(queries)):
            got = ids[row][ids[row] >= 0]
            assert len(set(got)) == len(got) == min(k, len(documents))
            assert np.array_equal(products[row, got].astype(np.float32), scores[row, : len(got)])
            assert list(zip(-scores[row, : len(got)], got, strict=True)) == sorted(
                zip(-scores[row, : len(got)], got, strict=True)
            )
        if k >= len(documents):
            assert np.array_equal(ids, expected_ids)


@pytest.mark.parametrize("name", engines.names())
def test_contract(name, tmp_path):
    """What all engines share: registered under their own name, sorted, padded, built in one process and opened anew."""
    engine = engines.get(name)
    assert engine.name == name and engine.kind in ("dense", "lexicon", "any")
    rng = np.random.default_rng(0)
    if engine.kind == "dense":
        vectors, queries = DenseVectors.of(rng.normal(size=(20, 8))), rng.normal(size=(5, 8)).astype(np.float32)
    else:
        of = UNSIGNED.get(max(bits or 0 for bits in engine.weights), np.float32)
        matrix = (rng.random((25, 8)) * 5).astype(of)
        vectors, queries = LexiconVectors.of(matrix[:20]), sp.csr_array(matrix[20:])
    try:
        index = build_index(tmp_path, name, vectors, "vectors")
    except AbsentError as absent:
        pytest.skip(str(absent))
    assert index.bytes > 0 and index.seconds >= 0
    with index.open() as opened:
        for knobs in engines.grid(name, "search"):
            ids, scores = opened.search(opened.prepare(queries, **knobs), 30, 1, **knobs)
            assert ids.shape == scores.shape == (5, 30) and (ids.dtype, scores.dtype) == (np.int64, np.float32)
            assert (ids[:, 20:] == -1).all() and np.isneginf(scores[ids == -1]).all()
            assert (np.diff(scores[:, :20]) <= 0).all() or np.isneginf(scores[:, :20]).any()


def test_registry_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown engine 'impakt'.*impact"):
        engines.get("impakt")
    assert "faiss-flat" in engines.names("dense") and "faiss-flat" not in engines.names("lexicon")
    assert "dummy" in engines.names("dense") and "dummy" in engines.names("lexicon")
    assert engines.grid("impact", "build") == [{}]


def test_top_k_and_sort_rows():
    scores = np.array([[0.0, 2.0, 1.0, 2.0, -1.0]])
    assert ranking.top_k(scores, 3, positive=True)[0].tolist() == [[1, 3, 2]]
    assert ranking.top_k(scores, 4, positive=True)[0].tolist() == [[1, 3, 2, -1]]
    assert ranking.top_k(scores, 7, positive=False)[0].tolist() == [[1, 3, 2, 0, 4, -1, -1]]
    ids, best = ranking.sort_rows(np.array([[4, -1, 2, 9]]), np.array([[1.0, 7.0, 1.0, 3.0]]))
    assert ids.tolist() == [[9, 2, 4, -1]] and best.tolist() == [[3.0, 1.0, 1.0, -np.inf]]


# --- indexes ----------------------------------------------------------------------------------------------------------------------


def test_an_index_is_built_once_and_again_on_force(tmp_path, monkeypatch):
    vectors = Impacts(LexiconVectors.of(np.eye(4, dtype=np.float32)), bits=8)
    first = build_index(tmp_path, "impact", vectors, "v")
    stamp = (first.folder / "index.json").stat().st_mtime_ns
    assert build_index(tmp_path, "impact", vectors, "v") == first
    assert (first.folder / "index.json").stat().st_mtime_ns == stamp
    build_index(tmp_path, "impact", vectors, "v", force=True)
    assert (first.folder / "index.json").stat().st_mtime_ns != stamp
    others = [
        build_index(tmp_path, "scipy", vectors, "v"),
        build_index(tmp_path, "impact", vectors, "w"),
        build_index(tmp_path, "impact", Impacts(vectors.vectors, top_k=2, bits=8), "v"),
        build_index(tmp_path, "impact", Impacts(vectors.vectors, bits=16), "v"),
        build_index(tmp_path, "impact", Impacts(vectors.vectors, bits=8, scale=50), "v"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 6


def test_a_build_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(InputError):
        build_index(tmp_path, "impact", LexiconVectors.of(np.eye(4, dtype=np.float32)), "v")
    assert list((tmp_path / "indexes").iterdir() if (tmp_path / "indexes").exists() else []) == []


@pytest.mark.parametrize(
    ("engine", "file"),
    [("impact", "impacts.npy"), ("impact", "offsets.npy"), ("scipy", "data.npy"), ("faiss-flat", "flat.faiss")],
)
def test_a_truncated_index_is_named(tmp_path, engine, file):
    rows = np.eye(4, dtype=np.float32)
    vectors = DenseVectors.of(rows) if engine == "faiss-flat" else Impacts(LexiconVectors.of(rows), bits=8)
    index = build_index(tmp_path, engine, vectors, "v")
    path = index.folder / file
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"{file}: \d+ bytes, expected \d+ bytes"):
        index.open()
    with pytest.raises(InputError, match=rf"{file}|posting lists"):
        engines.get(engine).open(index.folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{file}: missing"):
        index.open()
