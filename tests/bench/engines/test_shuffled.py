"""The order of indexes: fixed, without favour, and invisible in results."""

import numpy as np
import pytest
import scipy

from bench.engines import indexes
from bench.engines.indexes import build_index, open_index
from bench.engines.shuffled import Shuffled, order, shuffled
from bench.vectors.impacts import Impacts
from bench.vectors.read import DenseVectors, LexiconVectors
from models.files import read_json, write_json


def lexicon(count: int, rng) -> LexiconVectors:
    rows = rng.random((count, 12)).astype(np.float32) * (rng.random((count, 12)) < 0.5)
    return LexiconVectors.of(scipy.sparse.csr_array(rows))


def test_the_order_is_fixed_and_complete():
    assert order(8).tolist() == ORDER_OF_8, "indexes on disk depend on it"
    assert np.sort(order(5000)).tolist() == list(range(5000))
    assert order(0).tolist() == []


ORDER_OF_8 = [3, 6, 0, 2, 7, 1, 5, 4]


def test_the_first_items_are_anywhere():
    places = np.flatnonzero(order(100_000) < 1000)
    assert abs(places.mean() / 100_000 - 0.5) < 0.03
    assert np.histogram(places, 10, (0, 100_000))[0].min() > 60


@pytest.mark.parametrize("kind", ["dense", "lexicon", "impacts"])
def test_rows_are_those_of_the_items(kind):
    rng = np.random.default_rng(1)
    several = [rng.random((size, 6)).astype(np.float32) for size in (3, 5, 4)]
    dense = DenseVectors(several, 6)
    vectors = {"dense": dense, "lexicon": lexicon(12, rng)}
    vectors["impacts"] = Impacts(vectors["lexicon"], top_k=3, bits=8)
    view, as_array = shuffled(vectors[kind]), lambda rows: rows if kind == "dense" else rows.toarray()
    whole = as_array(vectors[kind].rows(0, 12))
    assert (as_array(view.rows(0, 12)) == whole[order(12)]).all()
    assert (as_array(view.rows(2, 5)) == whole[order(12)[2:5]]).all()
    shards = [as_array(shard) for shard in view.shards()]
    assert (np.concatenate(shards) == whole[order(12)]).all()
    assert (as_array(view.head(4).rows(0, 4)) == whole[order(12)[:4]]).all()
    assert (view.count, view.dimension, view.dtype) == (12, vectors[kind].dimension, vectors[kind].dtype)


def test_no_items():
    assert [shard.shape for shard in Shuffled(DenseVectors([], 6)).shards()] == [(0, 6)]


@pytest.mark.parametrize("engine", ["faiss-flat", "scipy", "impact"])
def test_results_are_row_numbers_of_the_vectors(engine, tmp_path):
    rng = np.random.default_rng(2)
    vectors = DenseVectors.of(rng.normal(size=(40, 12))) if engine == "faiss-flat" else lexicon(40, rng)
    documents = Impacts(vectors, bits=8) if engine == "impact" else vectors
    index = build_index(tmp_path, engine, documents, "v")
    queries = documents.rows(0, 40)
    with index.open() as opened:
        ids, scores = opened.search(opened.prepare(queries), 40)
    exact = (
        queries @ queries.T if engine == "faiss-flat" else (queries.astype(float) @ queries.astype(float).T).toarray()
    )
    for row in range(40):
        found = ids[row][ids[row] >= 0]
        assert len(set(found)) == len(found)
        assert exact[row, found] == pytest.approx(scores[row][ids[row] >= 0], rel=1e-3)
        assert (ids[row][scores[row] == -np.inf] == -1).all()
    assert ids.dtype == np.int64


def test_equal_scores_do_not_favour_the_first_items(tmp_path):
    documents = Impacts(LexiconVectors.of(scipy.sparse.csr_array(np.ones((2000, 3), np.float32))), bits=8)
    with build_index(tmp_path, "impact", documents, "equal").open() as opened:
        ids, scores = opened.search(opened.prepare(documents.rows(0, 1)), 200)
    assert len(set(scores[0])) == 1
    assert 900 < ids.mean() < 1100, "row numbers of the first 200 would have a mean of 100"


def test_indexes_of_older_versions_can_be_opened(tmp_path, monkeypatch):
    """They are in the order of the vectors, and their description has neither order nor count."""
    rng = np.random.default_rng(3)
    vectors = lexicon(20, rng)
    monkeypatch.setattr(indexes, "shuffled", lambda vectors: vectors)
    index = build_index(tmp_path, "scipy", vectors, "v")
    about = read_json(index.folder / "index.json", "")
    made_from = {key: value for key, value in about["made_from"].items() if key != "order"}
    older = {key: value for key, value in about.items() if key not in ("count", "seal")} | {"made_from": made_from}
    write_json(index.folder / "index.json", older, seal=True)
    with open_index(index.folder) as opened:
        ids, _ = opened.search(opened.prepare(vectors.rows(7, 8)), 1)
    exact = (vectors.rows(7, 8) @ vectors.to_scipy().T).toarray()[0]
    assert exact[ids[0, 0]] == exact.max()
