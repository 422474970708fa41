"""What is particular to FAISS: brute force with ties, index strings, training samples, threads, GPUs."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import engines
from bench.engines.dense import faiss_index
from bench.engines.exact import recall
from bench.vectors.read import DenseVectors
from models.errors import AbsentError, InputError
from tests.bench.engines.small import DIMENSION, ITEMS, brute_force, check_results, vectors_for

faiss = pytest.importorskip("faiss")
NAMES = [name for name in engines.names() if name.startswith("faiss")]
VALUES = st.sampled_from([-1.0, 0.0, 0.5, 1.0])


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=VALUES),
    hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=VALUES),
    st.integers(1, 15),
)
@example(np.ones((5, 4), np.float32), np.ones((1, 4), np.float32), 3)
def test_flat_equals_brute_force(documents, queries, k):
    """Products are exact in float32. At a tie for the k-th place FAISS chooses the document: scores are compared."""
    with tempfile.TemporaryDirectory() as folder:
        engines.get("faiss-flat").build(DenseVectors.of(documents), Path(folder))
        with engines.get("faiss-flat").open(Path(folder)) as engine:
            found = [engine.search(queries, k, blas_from=blas_from) for blas_from in (1, 1000)]
    products = queries.astype(np.float64) @ documents.T.astype(np.float64)
    expected_ids, expected_scores = brute_force(products, k, positive=False)
    for ids, scores in found:
        check_results(ids, scores, k)
        assert np.array_equal(scores, expected_scores)
        for row in range(len(queries)):
            got = ids[row][ids[row] >= 0]
            assert len(got) == min(k, len(documents))
            assert np.array_equal(products[row, got].astype(np.float32), scores[row, : len(got)])
        if k >= len(documents):
            assert np.array_equal(ids, expected_ids)


@pytest.mark.parametrize(
    ("name", "knobs", "kind", "size"),
    [
        ("faiss-flat", {}, "IndexFlatIP", 4 * DIMENSION),
        ("faiss-hnsw", {"m": 8}, "IndexHNSWFlat", 4 * DIMENSION + 8 * 8),
        ("faiss-hnsw-sq8", {"m": 8}, "IndexHNSWSQ", DIMENSION + 8 * 8),
        ("faiss-ivf-sq8", {}, "IndexIVFScalarQuantizer", DIMENSION + 8),
        ("faiss-ivf-sq8", {"refine": "Flat"}, "IndexRefineFlat", 5 * DIMENSION + 8),
        ("faiss-ivf-pq", {"refine": None}, "IndexIVFPQFastScan", DIMENSION / 4 + 8),
        ("faiss-ivf-pq", {}, "IndexRefine", DIMENSION / 4 + 8 + DIMENSION),
        ("faiss-rabitq", {"refine": None}, "IndexPreTransform", DIMENSION / 8 + 16),
        ("faiss-hnsw-reduced", {"dimensions": 16, "m": 8}, "IndexRefine", 16 + 8 * 8 + DIMENSION),
        ("faiss-binary", {}, "IndexRefine", DIMENSION / 8 + DIMENSION),
        ("faiss-rabitq-reduced", {"dimensions": 16}, "IndexRefine", 16 / 8 + 16 + DIMENSION),
    ],
)
def test_index_strings_make_the_documented_index(name, knobs, kind, size, tmp_path):
    """Kind of the index, and bytes of an item; the rest is centroids, codebooks and padding of lists."""
    documents, _, _ = vectors_for(engines.get(name))
    engines.get(name).build(documents, tmp_path, **knobs)
    index = faiss.read_index(str(tmp_path / faiss_index.FILE))
    assert type(index).__name__ == kind and (index.ntotal, index.d) == (ITEMS, DIMENSION)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    overhead = 8_000 + 4 * DIMENSION * (faiss_index.lists(ITEMS) + 2 * DIMENSION)
    assert size * ITEMS <= engines.get(name).bytes_on_disk(tmp_path) <= 1.3 * size * ITEMS + overhead
    if kind == "IndexHNSWFlat":
        assert index.hnsw.efConstruction == 200 and index.hnsw.nb_neighbors(1) == 8


def test_per_code_must_divide_the_dimensions(tmp_path):
    documents, _, _ = vectors_for(engines.get("faiss-ivf-pq"))
    with pytest.raises(InputError, match=f"per_code 3: expected a divisor of the {DIMENSION} dimensions"):
        engines.get("faiss-ivf-pq").build(documents, tmp_path, per_code=3)


@pytest.mark.parametrize("name", [name for name in NAMES if "-ivf" in name or "rabitq" in name])
def test_many_results_begin_with_those_of_a_short_search(name, tmp_path, monkeypatch):
    """The number of rescored candidates does not grow with k, so recall@10 can be read off the first 10 of 100."""
    pretend_gpu(monkeypatch)
    documents, queries, products = vectors_for(engines.get(name))
    engines.get(name).build(documents, tmp_path)
    with engines.get(name).open(tmp_path) as engine:
        many, few = (engine.search(queries, k, nprobe=1000, rescored=100)[0] for k in (100, 10))
        assert np.array_equal(many[:, :10], few)
        true = np.take_along_axis(products, few, axis=1)
        assert recall(true, brute_force(products, 10, positive=False)[1].astype(float), 10) >= 0.6
        narrow = engine.search(queries, 10, nprobe=1, rescored=100)[0]
        assert (narrow != few).any()


def test_signs_choose_candidates_and_products_order_them(tmp_path):
    """Document 0 has the signs of the query; document 1 differs in one of eight, but its product is twice as large."""
    documents = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [18, -1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]], np.float32)
    engines.get("faiss-binary").build(DenseVectors.of(documents), tmp_path)
    with engines.get("faiss-binary").open(tmp_path) as engine:
        one, two = (engine.search(np.ones((1, 8), np.float32), k, rescored=k) for k in (1, 2))
    assert one[0].tolist() == [[0]] and two[0].tolist() == [[1, 0]]
    assert two[1][0].tolist() == pytest.approx([17.6, 8], rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_threads_of_openmp_are_restored(name, tmp_path, monkeypatch):
    pretend_gpu(monkeypatch)
    documents, queries, _ = vectors_for(engines.get(name))
    before = faiss.omp_get_max_threads()
    engines.get(name).build(documents, tmp_path, before + 1)
    with engines.get(name).open(tmp_path) as engine:
        engine.search(queries, 5, threads=before + 3)
    assert faiss.omp_get_max_threads() == before


def pretend_gpu(monkeypatch) -> None:
    """Lets GPU engines run without one: what is copied to the GPU stays where it is."""
    if not faiss.get_num_gpus():
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
        monkeypatch.setattr(faiss, "GpuClonerOptions", type("Options", (), {}), raising=False)
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda resources, device, index, options: index, raising=False)


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="there is a GPU")
@pytest.mark.parametrize("name", ["faiss-flat-gpu", "faiss-ivf-pq-gpu"])
def test_without_a_gpu_the_engine_is_absent(name, tmp_path):
    assert engines.get(name).gpus == 1 and engines.get(name.removesuffix("-gpu")).gpus == 0
    with pytest.raises(AbsentError, match=r"lexlip-bench\[gpu\]"):
        engines.get(name).build(vectors_for(engines.get(name))[0], tmp_path)
    with pytest.raises(AbsentError, match=r"lexlip-bench\[gpu\]"):
        engines.get(name).open(tmp_path)


def test_the_training_sample_is_drawn_over_all_shards():
    documents, _, _ = vectors_for(engines.get("faiss-flat"))
    values, shards = documents.rows(0, ITEMS), (0, 300, ITEMS)
    sample = faiss_index.training_sample(documents, 200)
    rows = [int(np.flatnonzero((vector == values).all(axis=1))[0]) for vector in sample]
    assert len(rows) == len(set(rows)) == 200 and rows == sorted(rows)
    for start, stop in zip(shards, shards[1:], strict=False):
        assert np.mean([start <= row < stop for row in rows]) == pytest.approx((stop - start) / ITEMS, abs=0.08)
    assert np.array_equal(sample, faiss_index.training_sample(documents, 200))
    assert np.array_equal(faiss_index.training_sample(documents, 10**9), values)
    few = faiss_index.training_sample(DenseVectors.of(values[:5]), 600)
    assert len(few) == 16 and np.array_equal(np.unique(np.abs(few), axis=0), np.unique(np.abs(values[:5]), axis=0))


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 1), (1, 1), (78, 2), (1000, 25), (100_000, 1265), (1_000_000, 4000)]
)
def test_number_of_lists(count, expected):
    assert faiss_index.lists(count) == expected
