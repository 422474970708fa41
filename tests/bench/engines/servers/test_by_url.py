"""Requests of the server engines, against a stand-in; and the secrets of the environment, which nothing may hold.

The stand-in multiplies matrices, so this is no test of an engine: `test_matrix.py` is.
"""

import base64
import threading

import numpy as np
import pytest
import scipy.sparse as sp

from bench import engines
from bench.engines.indexes import build_index
from bench.engines.servers import common as servers
from bench.engines.servers.environment import variable
from bench.scale import run as scale
from bench.scale.plan import Grid, plan
from bench.scale.points import Gallery
from bench.scale.sweep import Sweep
from bench.store.isolated import Limits
from bench.store.records import Point, RecordStore
from bench.vectors.read import DenseVectors, LexiconVectors, open_vectors
from bench.vectors.write import write_vectors
from models.errors import InputError
from tests.bench.engines.servers.stand_in import BYTES, SECRET, UNLUCKY, USER, StandIn

DOCUMENTS = (np.random.default_rng(0).random((40, 12)) * np.random.default_rng(1).integers(0, 2, (40, 12)) * 9).astype(
    np.uint8
)
QUERIES = DOCUMENTS[:7]
DENSE = np.random.default_rng(2).normal(size=(40, 12)).astype(np.float32)


@pytest.fixture
def server(monkeypatch):
    made = StandIn()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    for product in ("QDRANT", "OPENSEARCH"):
        pytest.importorskip({"QDRANT": "qdrant_client", "OPENSEARCH": "opensearchpy"}[product])
        monkeypatch.setenv(variable(product, "URL"), made.url)
        monkeypatch.setenv(variable(product, "API_KEY" if product == "QDRANT" else "PASSWORD"), SECRET)
    monkeypatch.setenv(variable("OPENSEARCH", "USER"), USER)
    yield made
    made.shutdown()
    made.server_close()


LEXICON = [("qdrant", {}, {}), ("opensearch", {}, {"primaries": 2})]
DENSE_ENGINES = [
    ("qdrant-hnsw", {"ef": 99}, {"m": 5, "ef_construction": 44}),
    ("opensearch-hnsw", {"ef": 99}, {"m": 5, "ef_construction": 44}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Qdrant's client warns of a key without TLS, and of retries
@pytest.mark.parametrize(("name", "search", "knobs"), LEXICON + DENSE_ENGINES)
def test_requests_and_results(name, search, knobs, server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(servers, "ITEMS_AT_ONCE", 15)
    monkeypatch.setattr(servers, "QUERIES_AT_ONCE", 3)
    server.busy = 2
    dense = engines.get(name).kind == "dense"
    vectors, queries = (
        (DenseVectors.of(DENSE), DENSE[:7]) if dense else (LexiconVectors.of(DOCUMENTS), sp.csr_array(QUERIES))
    )
    index = build_index(tmp_path, name, vectors, "vectors", 2, served="by URL", **knobs)
    products = queries @ DENSE.T if dense else QUERIES.astype(np.int64) @ DOCUMENTS.T.astype(np.int64)
    with index.open() as engine:
        for threads in (1, 2):
            ids, scores = engine.search(engine.prepare(queries), 5, threads, **search)
            assert np.allclose(scores, -np.sort(-products, axis=1)[:, :5], rtol=1e-5)
            assert np.allclose(np.take_along_axis(products, ids, axis=1), scores, rtol=1e-5)
    assert server.busy < 0 and list(server.collections) == [f"lexlip_bench_{index.id}"]
    made, items = server.collections[f"lexlip_bench_{index.id}"].values()
    assert len(items) == 40 and index.bytes == (BYTES if name.startswith("opensearch") else None)
    if name == "opensearch":
        assert (
            made["mappings"]["properties"] == {"item": {"type": "rank_features"}}
            and made["settings"]["index"]["number_of_shards"] == 2
        )
    elif name == "qdrant":
        assert list(made["sparse_vectors"]) == ["item"] and not made["vectors"]
    elif name == "opensearch-hnsw":
        method = made["mappings"]["properties"]["item"]["method"]
        assert method["parameters"] == {"m": 5, "ef_construction": 44} and method["space_type"] == "innerproduct"
    else:
        graph = made["vectors"]["item"]["hnsw_config"]
        assert (graph["m"], graph["ef_construct"], made["vectors"]["item"]["distance"]) == (5, 44, "Dot")
    engine.remove(index.folder)
    assert not server.collections and not index.folder.exists()
    of_log_on = {
        "qdrant": ("api-key", SECRET),
        "opensearch": ("authorization", "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()),
    }
    header, value = of_log_on[name.partition("-")[0]]
    assert all({key.lower(): at for key, at in headers.items()}.get(header) == value for headers in server.headers)
    assert SECRET not in "".join(capfd.readouterr())


def text_of(home) -> str:
    """All content and names of files under a home, and its records."""
    files = [file.read_bytes().decode(errors="replace") for file in home.rglob("*") if file.is_file()]
    return "\n".join([*files, *map(str, home.rglob("*")), RecordStore(home).read().to_csv()])


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sweep_by_url_is_recorded_as_such_without_secrets(server, tmp_path, capfd):
    """By the real workers; then with a server that refuses the password and repeats it in its answer."""
    home, folders = tmp_path / "home", {}
    for part in ("documents", "queries"):
        folders[part] = tmp_path / part
        with write_vectors(folders[part], "lexicon", 12) as writer:
            names = [f"{part}{i}" for i in range(40)]
            writer.append(sp.csr_array(DOCUMENTS.astype(np.float32)), names, [f"item{i}" for i in range(40)])
    documents, queries = open_vectors(folders["documents"]), open_vectors(folders["queries"])
    side = Gallery(documents, "documents", queries, "queries", Point(task="scale", corpus="made", kind="lexicon"))
    grid = Grid(rounds=1, seconds=0.01, queries=8, exact_queries=4, scales={8: 1.0}, modes=(("single", 1),))
    store = RecordStore(home)
    Sweep(store, home, side, grid, Limits(600)).run(plan(side.kind, 40, grid, ["qdrant"], largest=False))
    rows = store.read()
    assert set(rows.status) == {"ok"} and all('"served":"by URL"' in knobs for knobs in rows.knobs)
    assert set(rows[rows.metric == "engine_recall@10"].value) == {1.0} and {"qps", "build_seconds"} <= set(rows.metric)
    of_this_machine = {"index_bytes", "bytes_per_image", "resident_bytes", "build_cpu_seconds", "build_peak_bytes"}
    assert not of_this_machine & set(rows.metric) and "nan" in scale.table(rows)

    server.refuses = True
    Sweep(store, home, side, grid, Limits(600)).run(plan(side.kind, 40, grid, ["opensearch"], largest=False))
    refused = store.read()[lambda rows: rows.engine == "opensearch"]
    assert set(refused.status) == {"failed"}
    assert refused.note.str.contains(
        "<LEXLIP_BENCH_OPENSEARCH_PASSWORD> at <LEXLIP_BENCH_OPENSEARCH_URL>", regex=False
    ).all()
    everything = text_of(home) + "".join(capfd.readouterr())
    assert "lexlip_bench_" in everything and "by URL" in everything
    hidden = [SECRET, server.url, base64.b64encode(f"{USER}:{SECRET}".encode()).decode()]
    assert [text for text in hidden if text in everything] == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["qdrant", "opensearch", "milvus"])
def test_an_unreachable_server_is_one_line_without_its_address(name, tmp_path, monkeypatch):
    pytest.importorskip({"qdrant": "qdrant_client", "milvus": "pymilvus", "opensearch": "opensearchpy"}[name])
    monkeypatch.setenv(variable(name.upper(), "URL"), "http://127.0.0.1:9")
    monkeypatch.setenv(variable(name.upper(), "PASSWORD"), SECRET)
    monkeypatch.setattr(servers, "TIMEOUT_SECONDS", 1)
    with pytest.raises(InputError, match=rf"^{name}: \w+: [^\n]+$") as refused:
        engines.get(name).build(LexiconVectors.of(DOCUMENTS), tmp_path)
    assert "127.0.0.1" not in str(refused.value) and refused.value.__suppress_context__


def test_a_build_that_fails_leaves_no_collection(server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.busy = 10**6
    with pytest.raises(InputError, match="^lexlip_bench_[0-9a-f]+: status 429$"):
        build_index(tmp_path, "opensearch", LexiconVectors.of(DOCUMENTS), "vectors", served="by URL")
    assert not server.collections and not list((tmp_path / "indexes").iterdir())


def test_server_errors_about_a_query_are_raised_without_secrets(server, tmp_path):
    index = build_index(tmp_path, "opensearch", LexiconVectors.of(DOCUMENTS), "vectors", served="by URL")
    with (
        index.open() as engine,
        pytest.raises(InputError, match="unlucky_exception: <LEXLIP_BENCH_OPENSEARCH_PASSWORD> is too large"),
    ):
        engine.search(engine.prepare(sp.csr_array(QUERIES)), UNLUCKY)


def test_an_index_by_url_needs_the_url(server, tmp_path, monkeypatch):
    index = build_index(tmp_path, "opensearch", LexiconVectors.of(DOCUMENTS), "vectors", served="by URL")
    monkeypatch.delenv("LEXLIP_BENCH_OPENSEARCH_URL")
    with pytest.raises(
        InputError, match=f"its collection lexlip_bench_{index.id} is on a server; set LEXLIP_BENCH_OPENSEARCH_URL"
    ):
        index.open()
