"""Candidates from fewer dimensions: what the linear map keeps, and that rescoring sees the whole vectors."""

import numpy as np
import pytest

from bench import engines
from bench.engines.dense.faiss_index import FILE, FaissIndex, axes
from bench.vectors.read import DenseVectors
from models.errors import InputError
from tests.bench.engines.small import DIMENSION, ITEMS, brute_force, unit, vectors_for

faiss = pytest.importorskip("faiss")
ALL = {"nprobe": 1000, "rescored": ITEMS}


def search(folder, documents, queries, k, index="{reduce}Flat", **knobs):
    FaissIndex("reduced", index, {}).build(DenseVectors.of(documents), folder, **knobs)
    with FaissIndex("reduced", index, {}).open(folder) as engine:
        return engine.search(queries, k)


def test_the_first_axis_is_that_of_the_products_not_of_the_differences():
    """These vectors differ along the second dimension only, which hardly matters for their products."""
    sample = np.array([[10, 0], [10, 1], [10, -1]], np.float32)
    assert np.abs(axes(sample, 1, "pca")) == pytest.approx(np.array([[1, 0]]), abs=1e-6)
    assert axes(sample, 2, "prefix").tolist() == [[1, 0], [0, 1]]


def test_pca_keeps_the_products_of_vectors_of_few_dimensions(tmp_path):
    """Vectors of rank 5 with a large mean, and queries elsewhere: without a mean, nothing is lost."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(DIMENSION, 5)))[0].T
    documents = ((rng.normal(size=(400, 5)) + [4, 0, 0, 0, 0]) @ basis).astype(np.float32)
    queries = rng.normal(size=(6, DIMENSION)).astype(np.float32)
    ids, scores = search(tmp_path, documents, queries, 10, dimensions=5, reduction="pca")
    expected_ids, expected_scores = brute_force(queries @ documents.T, 10, positive=False)
    assert np.array_equal(ids, expected_ids) and scores == pytest.approx(expected_scores, rel=1e-4)
    index = faiss.read_index(str(tmp_path / FILE))  # owns what the next line returns
    transform = faiss.downcast_VectorTransform(index.chain.at(0))
    assert (transform.d_in, transform.d_out, transform.b.size()) == (DIMENSION, 5, 0)


def test_a_prefix_is_normalised_again(tmp_path):
    """Whole, document 0 is nearest; of the prefixes (1, 0) and (0.6, 0.8), it is document 1 (cosines 0.8 and 0.96)."""
    documents = unit(np.array([[3, 0, 4], [3, 4, 0]]))
    queries = unit(np.array([[4, 3, 12]]))
    assert search(tmp_path, documents, queries, 2)[0].tolist() == [[0, 1]]
    ids, scores = search(tmp_path, documents, queries, 2, dimensions=2, reduction="prefix")
    assert ids.tolist() == [[1, 0]] and scores[0].tolist() == pytest.approx([0.96, 0.8])


@pytest.mark.parametrize("reduction", ["pca", "prefix"])
def test_all_candidates_of_a_graph_are_rescored(reduction, tmp_path):
    """With room for every item, the results are exact although the graph sees four dimensions."""
    documents, queries, products = vectors_for(engines.get("faiss-hnsw-reduced"))
    knobs = {"dimensions": 4, "reduction": reduction, "refine": "Flat"}
    engines.get("faiss-hnsw-reduced").build(documents, tmp_path, **knobs)
    with engines.get("faiss-hnsw-reduced").open(tmp_path) as engine:
        ids, _ = engine.search(queries, 10, ef=ITEMS)
        few, scores = engine.search(queries, 10, ef=10)
        assert engine.graph.efConstruction == 200
    best = brute_force(products, 10, positive=False)[0]
    assert (ids == best).mean() > 0.98 > 0.8 > (few == best).mean()  # a graph need not reach every item
    assert scores == pytest.approx(np.take_along_axis(products, few, axis=1), abs=1e-5)


@pytest.mark.parametrize("reduction", ["pca", "prefix"])
def test_candidates_are_rescored_by_all_dimensions(reduction, tmp_path):
    documents, queries, products = vectors_for(engines.get("faiss-rabitq-reduced"))
    knobs = {"dimensions": 4, "reduction": reduction, "refine": "Flat"}
    engines.get("faiss-rabitq-reduced").build(documents, tmp_path, **knobs)
    with engines.get("faiss-rabitq-reduced").open(tmp_path) as engine:
        ids, scores = engine.search(queries, 10, **ALL)
        few = engine.search(queries, 10, **ALL | {"rescored": 10})[0]
    expected_ids, expected_scores = brute_force(products, 10, positive=False)
    assert np.array_equal(ids, expected_ids) and scores == pytest.approx(expected_scores, abs=1e-5)
    assert (few != ids).mean() > 0.2, "four dimensions alone are not enough"


def test_vectors_of_fewer_dimensions_keep_all_of_theirs(tmp_path):
    documents, _, _ = vectors_for(engines.get("faiss-rabitq-reduced"))
    for name, knobs in (("reduced", {"dimensions": 256}), ("whole", {"dimensions": DIMENSION})):
        (tmp_path / name).mkdir()
        engines.get("faiss-rabitq-reduced").build(documents, tmp_path / name, **knobs)
    assert (tmp_path / "reduced" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    index = faiss.read_index(str(tmp_path / "whole" / FILE))
    base = faiss.downcast_index(index.base_index)
    assert base.chain.size() == 1  # the rotation


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"reduction": "prefixes"}, "reduction prefixes: expected pca or prefix"),
        ({"dimensions": 0}, "dimensions 0: expected at least 1"),
    ],
)
def test_wrong_knobs_are_refused(knobs, message, tmp_path):
    with pytest.raises(InputError, match=message):
        engines.get("faiss-rabitq-reduced").build(DenseVectors.of(np.eye(4, dtype=np.float32)), tmp_path, **knobs)


def test_fewer_vectors_than_dimensions_train_the_map(tmp_path):
    documents = unit(np.random.default_rng(0).normal(size=(3, DIMENSION)))
    ids, scores = search(tmp_path, documents, documents, 1, dimensions=8, reduction="pca")
    assert ids.tolist() == [[0], [1], [2]] and scores == pytest.approx(1, abs=1e-5)
