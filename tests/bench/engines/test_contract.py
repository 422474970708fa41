"""The contract of every registered engine, over one small set of vectors."""

import shutil

import numpy as np
import pytest

from bench import engines
from bench.engines import exact, indexes, shuffled
from bench.engines.contract import index_files
from bench.engines.indexes import build_index
from models.errors import AbsentError, InputError
from tests.bench.engines.small import ITEMS, QUERIES, brute_force, check_results, vectors_for

SLOW = ("lucene", "qdrant", "milvus", "opensearch", "pisa", "dummy")  # one kind of weights here, all of them nightly
CASES = [
    (name, bits)
    for name in engines.names()
    for bits in (engines.get(name).weights[-1:] if name in SLOW else engines.get(name).weights)
]
RECALL = {"bmp": 0.6, "seismic": 0.85, "dummy": 0.0}
ERROR = {"faiss-hnsw": 1e-5, "hnswlib": 1e-5, "faiss-ivf-pq-gpu": 0.3}  # of a score; others store 8 bits a dimension
FLOAT_ERROR = 1e-5


def strongest(name: str) -> dict:
    """The search knobs that examine the most."""
    return {knob: max(values) if knob != "algorithm" else values[0] for knob, values in swept(name).items()}


def swept(name: str) -> dict[str, list]:
    grid = engines.grid(name, "search")
    return {knob: [point[knob] for point in grid] for knob in grid[0]}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}" if case[1] else case[0])
def case(request, tmp_path_factory):
    """Name, index, an open engine, queries, and exact products (QUERIES, ITEMS)."""
    name, bits = request.param
    with pytest.MonkeyPatch.context() as patch:
        for product in ("QDRANT", "MILVUS", "OPENSEARCH"):
            patch.delenv(f"LEXLIP_BENCH_{product}_URL", raising=False)
        for module in (indexes, shuffled):  # ties are then in the order of ids, as engines promise
            patch.setattr(module, "order", np.arange)
        documents, queries, products = vectors_for(engines.get(name), bits)
        try:
            knobs = engines.grid(name, "build")[0]
            index = build_index(tmp_path_factory.mktemp(name), name, documents, "vectors", **knobs)
        except AbsentError as absent:
            pytest.skip(str(absent))
        with index.open() as engine:
            yield name, index, engine, queries, products


def test_declares_itself(case):
    name, index, engine, *_ = case
    assert (engine.name, index.engine) == (name, name)
    assert name in engines.names(engine.kind if engine.kind != "any" else "dense")
    assert index.seconds >= 0 and 0 < index.bytes == engine.bytes_on_disk(index.folder)
    files = sum(file.stat().st_size for file in index_files(index.folder))
    assert index.bytes == files or (name.startswith("qdrant") and index.bytes < files)  # preallocated files


@pytest.mark.parametrize("k", [1, 10, ITEMS + 5])
def test_results_are_exact_or_near(case, k):
    name, _, engine, queries, products = case
    knobs = strongest(name)
    ids, scores = engine.search(engine.prepare(queries, **knobs), k, 1, **knobs)
    check_results(ids, scores, k)
    assert (ids[:, ITEMS:] == -1).all()
    if engine.kind == "lexicon":
        assert (ids[-1] == -1).all() and ITEMS - 1 not in ids  # the query and the item without lexicons
    best = brute_force(products, k, positive=engine.kind == "lexicon")
    integers = products.dtype.kind == "i"
    if engine.exact:
        assert np.allclose(scores, best[1], rtol=0 if integers else FLOAT_ERROR, atol=0 if integers else FLOAT_ERROR)
        if integers:
            assert np.array_equal(ids, best[0])
    true = np.where(ids >= 0, np.take_along_axis(products, ids, axis=1), -np.inf)
    assert exact.recall(true, best[1].astype(np.float64), min(k, 10)) >= RECALL.get(name, 1.0 if engine.exact else 0.9)
    if name not in ("dummy", "bmp"):  # BMP's scores are in its own units
        found = ids >= 0
        error = FLOAT_ERROR if engine.exact else ERROR.get(name, 0.02)
        assert np.allclose(scores[found], true[found], rtol=error, atol=error if engine.kind == "dense" else 0)


def test_every_search_knob_threads_and_single_queries(case):
    name, _, engine, queries, _ = case
    for knobs in engines.grid(name, "search"):
        prepared = engine.prepare(queries, **knobs)
        ids, scores = engine.search(prepared, 10, 1, **knobs)
        check_results(ids, scores, 10)
        again = engine.search(engine.prepare(queries, **knobs), 10, 2, **knobs)
        check_results(*again, 10)
        assert np.allclose(scores, again[1], rtol=0.02) or name == "seismic"  # skips clusters in the order of threads
        alone = [engine.search(engine.prepare(queries[i : i + 1], **knobs), 10, 1, **knobs)[1] for i in range(QUERIES)]
        assert np.allclose(scores, np.concatenate(alone), rtol=0.02) or name == "seismic"
    assert engine.search(engine.prepare(queries[:0]), 7)[0].shape == (0, 7)


def test_a_truncated_file_is_refused(case, tmp_path):
    """By `open_index` for every engine; by the engine itself where it or its library reads the whole file."""
    name, index, *_ = case
    folder = shutil.copytree(index.folder, tmp_path / "indexes" / "copy")
    largest = max(index_files(folder), key=lambda file: (file.stat().st_blocks, file.stat().st_size))
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    broken = type(index)(**vars(index) | {"folder": folder})
    with pytest.raises(InputError, match=rf"{largest.name}: \d+ bytes, expected \d+ bytes"):
        broken.open()
    if name.partition("-")[0] not in ("lucene", "pisa", "qdrant", "milvus", "dummy"):
        with pytest.raises(InputError, match=rf"{largest.name}|incomplete|posting lists"):
            engines.get(name).open(folder)
    largest.unlink()
    with pytest.raises(InputError, match=f"{largest.name}: missing"):
        broken.open()


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("name", [name for name in engines.names() if name.partition("-")[0] not in SLOW])
def test_few_items(name, count, tmp_path):
    """Fewer items than a quantiser has centroids, a leaf or a block of documents has places, or k asks for."""
    engine = engines.get(name)
    documents, queries, products = vectors_for(engine, engine.weights[0])
    try:
        engine.build(documents.head(count), tmp_path, **engines.grid(name, "build")[0])
    except AbsentError as absent:
        pytest.skip(str(absent))
    with engines.get(name).open(tmp_path) as opened:
        for batch in (queries[:3], queries[:1]):
            ids, scores = opened.search(opened.prepare(batch, **strongest(name)), 8, **strongest(name))
            check_results(ids, scores, 8)
            best = brute_force(products[: len(ids), :count], 8, positive=engine.kind == "lexicon")[0]
            assert [set(row) - {-1} for row in ids] == [set(row) - {-1} for row in best] or name == "bmp"


@pytest.mark.parametrize("name", [name for name in engines.names("lexicon") if None not in engines.get(name).weights])
def test_float_weights_are_refused_by_engines_of_impacts(name, tmp_path):
    documents, _, _ = vectors_for(engines.get(name))
    with pytest.raises(InputError, match=f"{name}: weights are float32; quantise them to 8"):
        engines.get(name).build(documents, tmp_path)
