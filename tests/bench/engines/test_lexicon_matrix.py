"""Lexicon engines of other libraries x weights against brute force. Lucene and PISA start processes: nightly."""

import importlib.util
import os

import numpy as np
import pytest
import scipy.sparse as sp

from bench import engines
from bench.vectors.impacts import Impacts
from bench.vectors.read import LexiconVectors
from models.errors import AbsentError

ITEMS, QUERIES, LEXICONS = 2000, 30, 300
CASES = [
    ("lucene", 8, {}, {}, 1.0),
    ("lucene", 16, {}, {}, 1.0),
    ("pisa", 8, {}, {"algorithm": "block_max_maxscore"}, 1.0),
    ("pisa", 16, {}, {"algorithm": "maxscore"}, 1.0),
    ("bmp", 8, {}, {}, 0.6),
    ("seismic", 8, {}, {"query_cut": 40, "heap_factor": 0.7}, 0.95),
    ("seismic", None, {"n_knn": 10}, {"query_cut": 40, "heap_factor": 0.7}, 0.95),
    ("seismic", None, {}, {"query_cut": 40, "heap_factor": 0.7}, 0.95),
    ("kannolo", 8, {}, {"ef": 256}, 0.95),
    ("kannolo", None, {}, {"ef": 256}, 0.95),
    ("sindi", 8, {"quantised": False}, {}, 1.0),
    ("sindi", None, {"quantised": True}, {}, 0.95),
]
ABSENT = {
    "pisa": not os.environ.get("LEXLIP_BENCH_PISA_PYTHON"),
    "lucene": importlib.util.find_spec("jnius") is None,
}


def rows(count: int, seed: int) -> sp.csr_array:
    made = sp.random_array(
        (count, LEXICONS), density=0.06, random_state=np.random.default_rng(seed), dtype=np.float32, format="csr"
    )
    return sp.csr_array(made)


def impacts(count: int, seed: int, bits: int | None, extra=None) -> Impacts:
    made = rows(count, seed) if extra is None else sp.csr_array(sp.vstack([rows(count, seed), extra]))
    return Impacts(LexiconVectors.of(made), None, bits)


EMPTY = sp.csr_array((1, LEXICONS), dtype=np.float32)


def marked(case):
    name, bits, *_ = case
    own_process = [pytest.mark.nightly, pytest.mark.skipif(ABSENT.get(name, False), reason=f"{name} is not installed")]
    return pytest.param(case, id=f"{name}-{bits}", marks=own_process if name in ABSENT else [])


@pytest.fixture(params=map(marked, CASES), scope="module")
def opened(request, tmp_path_factory):
    """An engine over 2,000 items and one without lexicons, queries, knobs, minimum recall, exact results."""
    name, bits, build, search, floor = request.param
    documents, queries = impacts(ITEMS, 0, bits, EMPTY), impacts(QUERIES, 1, bits, EMPTY).rows(0, QUERIES + 1)
    folders = {each: tmp_path_factory.mktemp(each) for each in (name, "scipy")}
    try:
        engines.get(name).build(documents, folders[name], 2, **build)
    except AbsentError as absent:
        pytest.skip(str(absent))
    engines.get("scipy").build(documents, folders["scipy"])
    with engines.get(name).open(folders[name]) as engine, engines.get("scipy").open(folders["scipy"]) as truth:
        yield engine, queries, search, floor, truth.search(queries, 10)


def test_results_are_those_of_brute_force(opened):
    engine, queries, search, floor, (ids, scores) = opened
    found, best = engine.search(engine.prepare(queries), 10, **search)
    assert found.shape == best.shape == (QUERIES + 1, 10) and (found.dtype, best.dtype) == (np.int64, np.float32)
    assert (found[-1] == -1).all() and np.isneginf(best[-1]).all()  # the query without lexicons
    if floor == 1.0:
        assert np.array_equal(found, ids) and np.array_equal(best, scores)
    else:
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found[:-1], ids[:-1], strict=True)]) >= floor
        assert (np.diff(best[:-1], axis=1) <= 0).all()


def test_threads_and_single_queries_change_nothing(opened):
    """For approximate engines, almost nothing: the clusters that Seismic skips depend on the order of its threads."""
    engine, queries, search, floor, _ = opened
    ids, scores = engine.search(engine.prepare(queries), 10, 1, **search)
    for threads in (1, 2):
        again = engine.search(engine.prepare(queries), 10, threads, **search)
        assert (ids == again[0]).mean() >= floor and (scores == again[1]).mean() >= floor
    for number in range(5):
        alone = engine.search(engine.prepare(queries[number : number + 1]), 10, 1, **search)
        assert np.array_equal(ids[number], alone[0][0]) or floor < 1
