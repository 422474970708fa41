"""Traps of the libraries: each test shows one; where it fails, the library has changed."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from bench import engines
from bench.engines.dense.hnswlib_index import TOO_FEW
from bench.engines.lexicon import lucene
from bench.vectors.impacts import Impacts
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import AbsentError, InputError
from tests.bench.engines.small import ITEMS, brute_force, vectors_for

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("jnius") is None, reason="the extra 'lucene' is not installed")
def test_lucene_is_named_by_its_release():
    """pyserini 1.6 and 2.4 hold Lucene 9.9 and 10.5, and records called both "lucene"."""
    expected = "10." if sys.version_info >= (3, 12) else "9."
    (knobs,) = engines.grid("lucene", "build")
    assert knobs["release"].startswith(expected)


def test_lucene_that_is_not_installed_has_no_release(monkeypatch):
    def absent():
        raise AbsentError("no pyserini")

    monkeypatch.setattr(lucene, "_installed", absent)
    assert engines.grid("lucene", "build") == [{}]


@pytest.mark.skipif(importlib.util.find_spec("jnius") is None, reason="the extra 'lucene' is not installed")
def test_lucene_counts_a_lexicon_that_every_document_has(tmp_path):
    """As `impact` does; a similarity with an inverse document frequency would ignore it."""
    weights = np.array([[0.03, 0.05, 0], [0.03, 0, 0.07], [0.03, 0.01, 0.01]], np.float32)
    documents = Impacts(LexiconVectors.of(weights), None, 8)
    queries = Impacts(LexiconVectors.of(np.array([[0.02, 0.01, 0.01]], np.float32)), None, 8).rows(0, 1)
    found = {}
    for name in ("impact", "lucene"):
        (tmp_path / name).mkdir()
        engines.get(name).build(documents, tmp_path / name)
        with engines.get(name).open(tmp_path / name) as engine:
            found[name] = engine.search(engine.prepare(queries), 3)[1][0].tolist()
    assert found == {"impact": [13, 11, 8], "lucene": [13, 11, 8]}


@pytest.mark.nightly
@pytest.mark.skipif(not os.environ.get("LEXLIP_BENCH_PISA_PYTHON"), reason="pisa is not installed")
def test_pisa_refuses_a_broken_index(tmp_path):
    documents, queries, _ = vectors_for(engines.get("pisa"), 8)
    engines.get("pisa").build(documents, tmp_path)
    for file in tmp_path.glob("quantized*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="pisa: its process exited"):
        engine = engines.get("pisa").open(tmp_path)
        engine.search(engine.prepare(queries), 10)


def test_why_bmp_is_not_called_exact(tmp_path):
    """Query weights have 32 steps, and the last block is not visited. If this fails, the library has changed."""
    weights = np.array([[number, 1] for number in range(1, 101)], np.uint8)
    pytest.importorskip("bmp")
    engines.get("bmp").build(LexiconVectors.of(weights), tmp_path, block=32)
    with engines.get("bmp").open(tmp_path) as engine:
        queries = engine.prepare(sp.csr_array(np.array([[50, 0], [200, 2]], np.uint8)))
        ids, scores = engine.search(queries, 100)
        assert (ids[0] >= 0).sum() == 68 and ids[0, :68].tolist() == list(range(99, 31, -1))
        assert scores[0, :68].tolist() == [32.0 * weight for weight in range(100, 32, -1)]
        assert (scores[1, :68] - scores[0, :68] == 1).all()  # a weight of 1% of the largest is rounded up to a step


def test_bmp_is_exact_over_the_queries_that_it_rounds(tmp_path):
    """In 63 blocks the last one has no item of the top 10, so what differs from the exact results is the rounding."""
    pytest.importorskip("bmp")
    rng = np.random.default_rng(0)
    documents, queries = (
        np.ceil(255 * rng.random((count, 300)) * (rng.random((count, 300)) < 0.06)).astype(np.float32)
        for count in (2000, 30)
    )
    rounded = np.ceil(queries * (np.float32(32) / queries.max(axis=1, keepdims=True)))  # in float32, as the library
    engines.get("bmp").build(LexiconVectors.of(documents.astype(np.uint8)), tmp_path, block=32)
    with engines.get("bmp").open(tmp_path) as engine:
        ids, scores = engine.search(engine.prepare(sp.csr_array(queries.astype(np.uint8))), 10)
    assert np.array_equal(scores, brute_force(rounded @ documents.T, 10, positive=True)[1])
    products = queries @ documents.T
    found, best = np.take_along_axis(products, ids, 1).sum(), brute_force(products, 10, positive=True)[1].sum()
    assert 0.99 < found / best < 1


def test_bmp_gets_no_query_lexicon_that_no_document_has(tmp_path):
    pytest.importorskip("bmp")
    engines.get("bmp").build(LexiconVectors.of(np.array([[1, 0, 0], [0, 2, 0]], np.uint8)), tmp_path)
    with engines.get("bmp").open(tmp_path) as engine:
        assert (engine.search(engine.prepare(sp.csr_array(np.array([[0, 0, 9]], np.uint8))), 2)[0] == -1).all()


def test_a_panic_of_bmp_is_one_line(tmp_path):
    """It panics on some queries of one lexicon where scores tie."""
    pytest.importorskip("bmp")
    rng = np.random.default_rng(1)
    weights = (20 * (rng.random((700, 60)) < 0.07)).astype(np.uint8)
    weights[:, 59] = 0
    weights[0, 59] = 20
    engines.get("bmp").build(LexiconVectors.of(weights), tmp_path)
    with engines.get("bmp").open(tmp_path) as engine:
        queries = engine.prepare(sp.csr_array(np.diag(np.full(60, 30, np.uint8))))
        failed = []
        for query in queries:
            try:
                engine.search([query], 1)
            except InputError as error:
                failed.append(str(error))
    assert failed and all(re.match("bmp: the library failed on a query of 1 lexicons, k=1 ", line) for line in failed)


def test_hnswlib_pads_where_it_reaches_fewer_items(tmp_path):
    """The library raises; the contract of an engine is padding."""
    pytest.importorskip("hnswlib")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1000, 32)) * np.exp(rng.normal(size=(1000, 1)))
    queries = rng.standard_normal((5, 32)).astype(np.float32)
    engines.get("hnswlib").build(DenseVectors.of(vectors.astype(np.float32)), tmp_path)
    with engines.get("hnswlib").open(tmp_path) as engine:
        with pytest.raises(RuntimeError, match=TOO_FEW):
            engine.index.set_ef(1000)
            engine.index.knn_query(queries, 1000)
        ids, scores = engine.search(queries, 1000)
        few, _ = engine.search(queries, 10)
    found = ids >= 0
    assert (found.sum(axis=1) > 500).all() and (found.sum(axis=1) < 1000).any()
    assert np.array_equal(found, np.isfinite(scores)) and (np.diff(found.astype(int)) <= 0).all()
    for row, kept in zip(ids, found, strict=True):
        assert len(set(row[kept])) == kept.sum()
    assert (few >= 0).all()


def test_the_neighbours_of_seismic_find_what_its_lists_miss(tmp_path):
    """Of 40 equal documents, the list of the query's lexicon keeps two; a graph of five neighbours leads to others."""
    pytest.importorskip("seismic")
    weights = np.ones((40, 20), np.float32) + np.eye(40, 20, dtype=np.float32)
    found = {}
    for n_knn in (0, 5):
        folder = tmp_path / str(n_knn)
        folder.mkdir()
        engines.get("seismic").build(LexiconVectors.of(weights), folder, n_postings=2, n_knn=n_knn)
        with engines.get("seismic").open(folder) as engine:
            query = engine.prepare(sp.csr_array(np.eye(1, 20, 3, dtype=np.float32)))
            found[n_knn] = int((engine.search(query, 10)[0] >= 0).sum())
    assert 0 < found[0] < found[5]


ABORTS = """
import kannolo
import numpy as np
lexicons, weights, bounds = np.array({lexicons}, np.int32), np.ones({count}, np.float32), np.array({bounds})
index = kannolo.SparsePlainHNSW.build_from_arrays(lexicons, weights, bounds, m={m})
index.search(np.array([{query}], np.int32), np.ones(1, np.float32), 1)
"""


@pytest.mark.parametrize(
    ("lexicons", "query", "m", "aborts"),
    [([0, 1], 1, 32, False), ([0], 0, 32, True), ([0, 1], 2, 32, True), ([0, 1], 1, 1, True)],
    ids=["two documents", "one document", "a lexicon beyond those of the documents", "m of 1"],
)
def test_why_kannolo_gets_two_items_more(lexicons, query, m, aborts):
    pytest.importorskip("kannolo")
    count = len(lexicons)
    program = ABORTS.format(lexicons=lexicons, count=count, bounds=list(range(count + 1)), m=m, query=query)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.returncode == -6) == aborts and ("panicked" in ran.stderr) == aborts


def test_kannolo_answers_where_the_library_would_abort(tmp_path):
    pytest.importorskip("kannolo")
    engines.get("kannolo").build(LexiconVectors.of(np.array([[3, 0, 0]], np.uint8)), tmp_path)
    with engines.get("kannolo").open(tmp_path) as engine:
        queries = sp.csr_array(np.array([[2, 0, 5], [0, 0, 5], [0, 0, 0]], np.uint8))
        ids, scores = engine.search(engine.prepare(queries), 2)
        assert ids.tolist() == [[0, -1], [-1, -1], [-1, -1]] and scores[0, 0] == 6
        assert engine.search(engine.prepare(queries[:1]), 2)[0].tolist() == [[0, -1]]


@pytest.mark.parametrize(
    ("lexicons", "knobs", "message"),
    [(2**16 + 1, {}, "65537 lexicons; expected at most 65536"), (3, {"m": 1}, "m 1: expected at least 2")],
)
def test_kannolo_refuses_what_the_library_cannot_hold(lexicons, knobs, message, tmp_path):
    documents = LexiconVectors.of(sp.csr_array((2, lexicons), dtype=np.uint8))
    with pytest.raises(InputError, match=message):
        engines.get("kannolo").build(documents, tmp_path, **knobs)


FIRST_SEARCH = """
import sys
from pathlib import Path
import scipy.sparse as sp
from bench import engines
engine = engines.get("sindi").open(Path(sys.argv[1]))
queries = sp.csr_array([[1.0] * 8] * 64, dtype="float32")
print(engine.search(engine.prepare(queries), 5, 8)[0].shape)
"""


@pytest.mark.nightly
def test_the_first_search_of_sindi_may_use_several_threads(tmp_path):
    """The binding deadlocks in about half of the runs if two threads search first; `open` therefore searches once."""
    pytest.importorskip("pyvsag")
    engines.get("sindi").build(LexiconVectors.of(np.ones((50, 8), np.float32)), tmp_path, quantised=False)
    for _ in range(3):
        command = [sys.executable, "-c", FIRST_SEARCH, str(tmp_path)]
        answered = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        assert answered.stdout.strip() == "(64, 5)"


@pytest.mark.parametrize("quantised", [False, True])
def test_sindi_returns_only_matching_items(quantised, tmp_path):
    """The library leaves array tails uninitialised if fewer than k items match; freed arrays look like results here."""
    pytest.importorskip("pyvsag")
    documents, queries, products = vectors_for(engines.get("sindi"), 8)
    engines.get("sindi").build(documents, tmp_path, quantised=quantised)
    with engines.get("sindi").open(tmp_path) as engine:
        for _ in range(20):
            np.arange(ITEMS, dtype=np.int64), np.linspace(-9, 0, ITEMS, dtype=np.float32)
            ids, scores = engine.search(engine.prepare(queries), ITEMS)
            for row, of_row in zip(ids, products, strict=True):
                assert set(row[row >= 0]) <= set(np.flatnonzero(of_row))
    if not quantised:
        assert np.array_equal(scores, brute_force(products, ITEMS, positive=True)[1])
