"""Search servers x build knobs x search knobs: embedded (qdrant-edge, milvus-lite), and by URL where a server runs.

milvus-lite also serves by gRPC, so `milvus` is tested by URL here; the others with LEXLIP_BENCH_QDRANT_URL,
LEXLIP_BENCH_OPENSEARCH_URL or LEXLIP_BENCH_MILVUS_URL in the environment.
"""

import importlib.util
import uuid
from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.sparse as sp

from bench import engines
from bench.engines import exact
from bench.engines.indexes import build_index, open_index
from bench.engines.servers import common as servers
from bench.engines.servers.environment import setting, variable
from bench.vectors.impacts import Impacts
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import InputError

pytestmark = pytest.mark.nightly
ITEMS, QUERIES, LEXICONS, DIMENSION = 400, 12, 200, 16
GIVEN = {product: setting(product, "URL") for product in ("QDRANT", "MILVUS", "OPENSEARCH")}
CLIENTS = {"qdrant": "qdrant_edge", "milvus": "milvus_lite", "opensearch": "opensearchpy"}


@dataclass(frozen=True, eq=False)
class Case:
    """weak, strong: search knobs that examine little and nearly everything. floor: recall@10 of the strong ones."""

    name: str
    bits: int | None = None
    build: dict = field(default_factory=dict)
    weak: dict = field(default_factory=dict)
    strong: dict = field(default_factory=dict)
    floor: float = 1.0

    @property
    def product(self) -> str:
        return self.name.partition("-")[0]

    def __str__(self) -> str:
        return f"{self.name}-{self.bits}" if self.bits else self.name


NARROW, WIDE = {"ef": 10}, {"ef": 300}
POOR = {"m": 4, "ef_construction": 16}
CASES = [
    Case("qdrant", 8),
    Case("qdrant", 16),
    Case("qdrant"),
    Case("qdrant-hnsw", None, POOR, NARROW, WIDE, 0.9),
    Case("milvus", 8),
    Case("milvus"),
    Case("milvus-flat"),
    Case("milvus-hnsw", None, POOR, NARROW, WIDE, 0.9),
    Case("milvus-ivf-flat", None, {}, {"nprobe": 1}, {"nprobe": 1000}),
    Case("opensearch", 8),
    Case("opensearch", 16, floor=0.9),
    Case("opensearch-hnsw", None, POOR, NARROW, WIDE, 0.9),
]


def sparse(count: int, seed: int) -> sp.csr_array:
    """Rows of lexicons; the last row has none."""
    rows = sp.random_array(
        (count - 1, LEXICONS), density=0.06, random_state=np.random.default_rng(seed), dtype=np.float32, format="csr"
    )
    return sp.csr_array(sp.vstack([rows, sp.csr_array((1, LEXICONS), dtype=np.float32)]))


def dense(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made_for(case: Case):
    """Documents and queries for a case."""
    if engines.get(case.name).kind == "dense":
        values = dense(ITEMS, 0)
        return DenseVectors([values[:250], values[250:]], DIMENSION), dense(QUERIES, 1)
    scale_of = {8: 100.0, 16: 1000.0}.get(case.bits, 1.0)
    documents, queries = (
        Impacts(LexiconVectors.of(sparse(count, count)), None, case.bits, scale_of) for count in (ITEMS, QUERIES)
    )
    return documents, queries.to_scipy()


def built(name, vectors, folder, **knobs):
    """Folder of a new index; its random name is that of the server's collection."""
    folder = folder / f"test{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    engines.get(name).build(vectors, folder, 2, **knobs)
    return folder


@pytest.fixture(scope="module", autouse=True)
def embedded():
    """Embedded unless a test sets a URL."""
    with pytest.MonkeyPatch.context() as patch:
        for product in GIVEN:
            patch.delenv(variable(product, "URL"), raising=False)
        yield


@pytest.fixture(scope="module")
def milvus_url(tmp_path_factory):
    if GIVEN["MILVUS"]:
        yield GIVEN["MILVUS"]
        return
    pytest.importorskip("milvus_lite")
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(tmp_path_factory.mktemp("server") / "data"))
    yield f"http://127.0.0.1:{port}"
    server.stop(grace=2)
    database.close()


@pytest.fixture(scope="module")
def urls(milvus_url):
    return GIVEN | {"MILVUS": milvus_url}


@pytest.fixture(
    params=[(case, served) for case in CASES for served in ("embedded", "by URL")],
    ids=lambda at: f"{at[0]} {at[1]}",
    scope="module",
)
def opened(request, tmp_path_factory):
    """An open engine, its case, queries and documents."""
    case, served = request.param
    product = case.product.upper()
    with pytest.MonkeyPatch.context() as patch:
        if served == "by URL":
            url = request.getfixturevalue("urls")[product]
            if not url:
                pytest.skip(f"{variable(product, 'URL')} is not set")
            patch.setenv(variable(product, "URL"), url)
        elif product == "OPENSEARCH":
            pytest.skip("opensearch has no embedded form")
        elif importlib.util.find_spec(CLIENTS[case.product]) is None:
            pytest.skip(f"the extra '{case.product}' is not installed")
        documents, queries = made_for(case)
        folder = built(case.name, documents, tmp_path_factory.mktemp(case.name), **case.build)
        with engines.get(case.name).open(folder) as engine:
            yield engine, case, queries, documents
        engines.get(case.name).remove(folder)
        assert not folder.exists()


def recall(documents, queries, ids):
    return exact.recall(exact.true_scores(documents, queries, ids), exact.best_scores(documents, queries, 10), 10)


def test_results_are_those_of_brute_force(opened):
    engine, case, queries, documents = opened
    ids, scores = engine.search(engine.prepare(queries, **case.strong), 10, **case.strong)
    assert ids.shape == scores.shape == (QUERIES, 10) and (ids.dtype, scores.dtype) == (np.int64, np.float32)
    assert recall(documents, queries, ids) >= case.floor
    true = exact.true_scores(documents, queries, ids)
    assert (
        np.array_equal(scores, true)
        if case.bits == 8
        else scores == pytest.approx(true, rel=1e-5 if engine.exact else 4e-3)
    )
    for row, of_row in zip(ids, scores, strict=True):
        found = row[row >= 0]
        assert len(set(found)) == len(found) and (row[: len(found)] >= 0).all()
        assert list(zip(-of_row, row, strict=True))[: len(found)] == sorted(
            zip(-of_row[: len(found)], found, strict=True)
        )
    if engine.kind == "lexicon":  # its last query, and the last item, have no lexicons
        assert (ids[-1] == -1).all() and np.isneginf(scores[-1]).all() and ITEMS - 1 not in ids
        assert engine.exact == (case.product != "opensearch")


def test_recall_rises_with_the_search_knob(opened):
    engine, case, queries, documents = opened
    if case.weak:
        found = [
            recall(documents, queries, engine.search(engine.prepare(queries), 10, **knobs)[0])
            for knobs in (case.weak, case.strong)
        ]
        # a Milvus server scans segments of fewer than 1,024 items
        assert found[0] <= found[1] if (case.product, engine.served) == ("milvus", "by URL") else found[0] < found[1]


def test_threads_batches_and_single_queries_change_nothing(opened, monkeypatch):
    engine, case, queries, _ = opened
    ids, scores = engine.search(engine.prepare(queries), 10, 1, **case.strong)
    monkeypatch.setattr(servers, "QUERIES_AT_ONCE", 5)
    for threads in (1, 2):
        found = engine.search(engine.prepare(queries), 10, threads, **case.strong)
        assert np.allclose(found[1], scores, rtol=1e-6)  # a batch may be a product of matrices
    alone = [engine.search(engine.prepare(queries[i : i + 1]), 10, 1, **case.strong)[1] for i in range(QUERIES)]
    assert np.allclose(np.concatenate(alone), scores, rtol=1e-6)


def test_no_query_and_more_results_than_items(opened):
    engine, case, queries, documents = opened
    assert engine.search(engine.prepare(queries[:0]), 7, **case.strong)[0].shape == (0, 7)
    ids, scores = engine.search(
        engine.prepare(queries[:2]), ITEMS + 5, **(case.strong and WIDE | case.strong | {"ef": ITEMS + 5})
    )
    assert (ids[:, ITEMS:] == -1).all() and np.isneginf(scores[ids == -1]).all()
    expected = (exact.best_scores(documents, queries[:2], ITEMS) > -np.inf).sum(axis=1)
    assert (
        (ids >= 0).sum(axis=1) >= (0.99 if case.floor < 1 else 1) * expected
    ).all()  # a graph need not reach every item


def test_bytes_on_disk(opened, tmp_path):
    """Of a server's collection what the server reports: nothing (Qdrant, Milvus), or a size (OpenSearch)."""
    engine, case, _, documents = opened
    folder = built(case.name, documents, tmp_path, **case.build)
    found = engines.get(case.name).bytes_on_disk(folder)
    by_url = list(path.name for path in folder.iterdir()) == [servers.ABOUT]
    engines.get(case.name).remove(folder)
    stored = 4 * DIMENSION * ITEMS if engine.kind == "dense" else documents.to_scipy().nnz
    assert found is None if by_url and case.product != "opensearch" else stored < found < 30 * stored + 100_000


EMBEDDED = [case for case in CASES if str(case) in ("qdrant-8", "qdrant-hnsw", "milvus-8", "milvus-hnsw")]


@pytest.fixture(params=EMBEDDED, ids=str)
def local(request):
    if importlib.util.find_spec(CLIENTS[request.param.product]) is None:
        pytest.skip(f"the extra '{request.param.product}' is not installed")
    return request.param


@pytest.mark.parametrize("count", [0, 1])
def test_few_items(local, count, tmp_path):
    values = (
        dense(2, 0) if engines.get(local.name).kind == "dense" else np.array([[0.5, 0, 0.25], [0, 0, 0]], np.float32)
    )
    queries = values if values.shape[1] == DIMENSION else sp.csr_array(values)
    of = DenseVectors if values.shape[1] == DIMENSION else LexiconVectors
    folder = built(local.name, of.of(values[:count]), tmp_path)
    with engines.get(local.name).open(folder) as engine:
        ids, scores = engine.search(engine.prepare(queries), 3, **local.strong)
    assert ids[0].tolist() == [0, -1, -1][:count] + [-1] * (3 - count) and np.isneginf(scores[ids == -1]).all()


def test_opening_changes_no_file_and_a_changed_file_is_refused(local, tmp_path):
    """`open_index` compares the CRC-32 of every file, so opening and searching must leave all bytes unchanged."""
    documents, queries = made_for(local)
    index = build_index(tmp_path, local.name, documents, "vectors", **local.build)
    assert index.bytes > 0 and index.folder.name in servers.collection(index.folder)
    for _ in range(2):
        with index.open() as engine:
            assert (engine.search(engine.prepare(queries), 3, **local.strong)[0][0] >= 0).all()
    largest = max((file for file in index.folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_blocks)
    largest.write_bytes(largest.read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"{largest.name}: \d+ bytes, expected"):
        open_index(index.folder)


def test_client_errors_about_broken_files_are_one_line(local, tmp_path):
    documents, _ = made_for(local)
    folder = built(local.name, documents, tmp_path, **local.build)
    for file in folder.rglob("*"):
        if file.is_file() and file.name != servers.ABOUT:
            file.write_bytes(b"")
    with pytest.raises(InputError, match=rf"^{local.name}: \w+: [^\n]+$|expected {ITEMS}") as refused:
        engines.get(local.name).open(folder)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__
