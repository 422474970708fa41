"""What the engines of search servers send by URL, and what they never write down: against a stand-in that speaks enough of the servers' HTTP.

This is no test of an engine: the stand-in multiplies matrices. It holds that the requests say what is meant, that a busy server is asked again,
and that no secret of the environment gets anywhere. `test_engines_servers.py` runs the same engines against real servers.
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import scipy.sparse as sp

from bench import engines
from bench.engines.indexes import build_index
from bench.engines.servers import common as servers
from bench.scale import run as scale
from bench.scale.plan import Grid, plan
from bench.scale.sweep import Side, Sweep
from bench.store.isolated import Limits
from bench.store.records import Point, RecordStore
from bench.vectors.read import DenseVectors, LexiconVectors, open_vectors, write_vectors
from models.errors import InputError

SECRET, USER = "s3cret-of-the-tests", "the-user"
BYTES = 4711
DOCUMENTS = (np.random.default_rng(0).random((40, 12)) * np.random.default_rng(1).integers(0, 2, (40, 12)) * 9).astype(
    np.uint8
)
QUERIES = DOCUMENTS[:7]
DENSE = np.random.default_rng(2).normal(size=(40, 12)).astype(np.float32)


class StandIn(ThreadingHTTPServer):
    """Collections in memory: name -> {"made": body of its creation, "items": {id: vector}}; `busy` requests are refused first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.collections, self.asked, self.headers, self.busy, self.refuses = {}, [], [], 0, False
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        parts = [part for part in urlsplit(self.path).path.split("/") if part]
        self.server.asked.append((self.command, *parts))
        self.server.headers.append(dict(self.headers))
        if self.server.refuses:
            self._send(401, {"error": f"no entry for {SECRET} at {self.server.url}"})
        else:
            self._send(*(self._qdrant if parts[:1] == ["collections"] else self._opensearch)(parts, body))

    do_GET = do_PUT = do_DELETE = do_POST

    def log_message(self, *_):
        pass

    def _send(self, status, answer):
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _qdrant(self, parts, body):
        collections, (_, name, *rest), body = self.server.collections, parts, json.loads(body or "{}")
        if self.command == "DELETE":
            return 200, {"result": collections.pop(name, None) is not None}
        if self.command == "PUT" and not rest:
            collections[name] = {"made": body, "items": {}}
            return 200, {"result": True}
        if self.command == "PUT":
            self.server.busy -= 1
            if self.server.busy >= 0:
                return 500, {"status": {"error": "busy"}}
            for point in body["points"]:
                vector = point["vector"]["item"]
                collections[name]["items"][point["id"]] = (
                    dict(zip(vector["indices"], vector["values"], strict=True)) if isinstance(vector, dict) else vector
                )
            return 200, {"result": {"operation_id": 1, "status": "completed"}}
        if not rest:
            graph = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
            optimizer = {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            }
            config = {"params": {}, "hnsw_config": graph, "optimizer_config": optimizer}
            about = {
                "status": "green",
                "optimizer_status": "ok",
                "segments_count": 1,
                "config": config,
                "payload_schema": {},
            }
            return 200, {"result": about}
        items = collections[name]["items"]
        if rest[-1] == "count":
            return 200, {"result": {"count": len(items)}}
        answers = []
        for query in body["searches"]:
            vector = (
                query["query"].get("nearest", query["query"]) if isinstance(query["query"], dict) else query["query"]
            )
            if isinstance(vector, dict):
                vector = dict(zip(vector["indices"], vector["values"], strict=True))
            hits = best(items, vector, query["limit"])
            answers.append({"points": [{"id": item, "version": 0, "score": score} for item, score in hits]})
        return 200, {"result": answers}

    def _opensearch(self, parts, body):
        collections, name, do = self.server.collections, parts[0] if parts else "", parts[-1] if parts else ""
        if do == "_bulk":
            lines, items = [json.loads(line) for line in body.splitlines()], []
            for action, document in zip(lines[::2], lines[1::2], strict=True):
                at = action["index"]
                self.server.busy -= 1
                if self.server.busy < 0:
                    collections[at["_index"]]["items"][int(at["_id"])] = document["item"]
                items.append({"index": {"_id": at["_id"], "status": 429 if self.server.busy >= 0 else 201}})
            return 200, {"errors": any(item["index"]["status"] == 429 for item in items), "items": items}
        if self.command == "DELETE":
            return 200, {"acknowledged": collections.pop(name, None) is not None}
        if self.command == "PUT":
            collections[name] = {"made": json.loads(body), "items": {}}
            return 200, {"acknowledged": True}
        if do == "_count":
            return 200, {"count": len(collections[name]["items"])}
        if "_stats" in parts:
            return 200, {"_all": {"total": {"store": {"size_in_bytes": BYTES}}}}
        if do != "_msearch":
            return 200, {}
        answers = []
        for line in body.splitlines()[1::2]:
            query, items = json.loads(line), collections[name]["items"]
            if query["size"] == 13:
                answers.append(
                    {"status": 400, "error": {"type": "unlucky_exception", "reason": f"{SECRET} is too large"}}
                )
                continue
            if "knn" in query["query"]:
                knn = query["query"]["knn"]["item"]
                hits = [(item, 1 + p if p >= 0 else 1 / (1 - p)) for item, p in best(items, knn["vector"], knn["k"])]
            else:
                clauses = [one["rank_feature"] for one in query["query"]["bool"]["should"]]
                assert all(clause["linear"] == {} for clause in clauses)
                hits = best(
                    items, {clause["field"].removeprefix("item."): clause["boost"] for clause in clauses}, query["size"]
                )
            found = [{"_id": str(item), "_score": score} for item, score in hits]
            answers.append({"status": 200} | ({"hits": {"hits": found}} if found else {}))
        return 200, {"responses": answers}


def best(items, query, k):
    """The k best (id, inner product); of sparse vectors those that share a name with the query."""
    if isinstance(query, dict):
        scores = [
            (item, sum(weight * query.get(name, 0) for name, weight in vector.items()))
            for item, vector in items.items()
        ]
        scores = [(item, score) for item, score in scores if score > 0]
    else:
        scores = [(item, float(np.dot(vector, query))) for item, vector in items.items()]
    return sorted(scores, key=lambda at: -at[1])[:k]


@pytest.fixture
def server(monkeypatch):
    made = StandIn()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    for product in ("QDRANT", "OPENSEARCH"):
        pytest.importorskip({"QDRANT": "qdrant_client", "OPENSEARCH": "opensearchpy"}[product])
        monkeypatch.setenv(servers.variable(product, "URL"), made.url)
        monkeypatch.setenv(servers.variable(product, "API_KEY" if product == "QDRANT" else "PASSWORD"), SECRET)
    monkeypatch.setenv(servers.variable("OPENSEARCH", "USER"), USER)
    yield made
    made.shutdown()
    made.server_close()


LEXICON = [("qdrant", {}, {}), ("opensearch", {}, {"primaries": 2})]
DENSE_ENGINES = [
    ("qdrant-hnsw", {"ef": 99}, {"m": 5, "ef_construction": 44}),
    ("opensearch-hnsw", {"ef": 99}, {"m": 5, "ef_construction": 44}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Qdrant's client: a key without TLS, a batch that is sent again
@pytest.mark.parametrize(("name", "search", "knobs"), LEXICON + DENSE_ENGINES)
def test_requests_say_what_is_meant(name, search, knobs, server, tmp_path, monkeypatch, capfd):
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
    """Everything under a home, records as text too."""
    files = [file.read_bytes().decode(errors="replace") for file in home.rglob("*") if file.is_file()]
    return "\n".join([*files, *map(str, home.rglob("*")), RecordStore(home).read().to_csv()])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sweep_by_url_says_so_and_keeps_the_secret(server, tmp_path, capfd):
    """Through the real workers; then with a server that refuses the password and repeats it in its answer."""
    home, folders = tmp_path / "home", {}
    for part in ("documents", "queries"):
        folders[part] = tmp_path / part
        with write_vectors(folders[part], "lexicon", 12) as writer:
            names = [f"{part}{i}" for i in range(40)]
            writer.append(sp.csr_array(DOCUMENTS.astype(np.float32)), names, [f"item{i}" for i in range(40)])
    documents, queries = open_vectors(folders["documents"]), open_vectors(folders["queries"])
    side = Side(documents, "documents", queries, "queries", Point(task="scale", corpus="made", kind="lexicon"))
    grid = Grid(rounds=1, seconds=0.01, queries=8, checked=4, scales={8: 1.0}, modes=(("single", 1),))
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
def test_a_server_that_is_not_there_is_one_line_without_its_address(name, tmp_path, monkeypatch):
    pytest.importorskip({"qdrant": "qdrant_client", "milvus": "pymilvus", "opensearch": "opensearchpy"}[name])
    monkeypatch.setenv(servers.variable(name.upper(), "URL"), "http://127.0.0.1:9")
    monkeypatch.setenv(servers.variable(name.upper(), "PASSWORD"), SECRET)
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


def test_what_a_server_says_of_a_query_is_an_error_without_the_secret(server, tmp_path):
    index = build_index(tmp_path, "opensearch", LexiconVectors.of(DOCUMENTS), "vectors", served="by URL")
    with (
        index.open() as engine,
        pytest.raises(InputError, match="unlucky_exception: <LEXLIP_BENCH_OPENSEARCH_PASSWORD> is too large"),
    ):
        engine.search(engine.prepare(sp.csr_array(QUERIES)), 13)


def test_an_index_by_url_needs_the_url(server, tmp_path, monkeypatch):
    index = build_index(tmp_path, "opensearch", LexiconVectors.of(DOCUMENTS), "vectors", served="by URL")
    monkeypatch.delenv("LEXLIP_BENCH_OPENSEARCH_URL")
    with pytest.raises(
        InputError, match=f"its collection lexlip_bench_{index.id} is on a server; set LEXLIP_BENCH_OPENSEARCH_URL"
    ):
        index.open()


@pytest.mark.parametrize("name", ["qdrant", "milvus", "opensearch"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"http://{USER}:{SECRET}@host:9200", "a user, a password"),
        (f"https://host/?token={SECRET}", "a user, a password or parameters"),
        ("host:9200", "not a URL"),
        ("http://host:none", "not a URL"),
        ("http://[host", "not a URL"),
    ],
)
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(name, url, problem, tmp_path, monkeypatch):
    pytest.importorskip({"qdrant": "qdrant_client", "milvus": "pymilvus", "opensearch": "opensearchpy"}[name])
    monkeypatch.setenv(servers.variable(name.upper(), "URL"), url)
    with pytest.raises(
        InputError, match=f"LEXLIP_BENCH_{name.upper()}_URL: {problem}.*LEXLIP_BENCH_{name.upper()}_PASSWORD"
    ) as refused:
        engines.get(name).build(LexiconVectors.of(DOCUMENTS), tmp_path)
    assert SECRET not in str(refused.value) and "host:9200" not in str(refused.value)


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_sent_by_threads_until_one_fails(threads):
    sent, read = [], []

    def batches(count):
        for number in range(count):
            read.append(number)
            yield (number,)

    servers.each(batches(40), sent.append, threads)
    assert sorted(sent) == list(range(40))
    read.clear()
    with pytest.raises(ZeroDivisionError):
        servers.each(batches(10**6), lambda number: 1 // (number - 5), threads)
    assert 6 <= len(read) < 10**6


def test_a_text_is_freed_of_the_environment(monkeypatch):
    monkeypatch.setenv("LEXLIP_BENCH_MILVUS_URL", "https://db.home.org:1/x")
    monkeypatch.setenv("LEXLIP_BENCH_MILVUS_API_KEY", "key")
    found = servers.clean("MILVUS", "no key at https://db.home.org:1/x, db.home.org:1 or a.db.home.org")
    key, url = "<LEXLIP_BENCH_MILVUS_API_KEY>", "<LEXLIP_BENCH_MILVUS_URL>"
    assert found == f"no {key} at {url}, {url}:1 or a.db.home.org"
    assert servers.clean("MILVUS", "a\n" + 498 * "b" + "key") == "a " + 498 * "b"
