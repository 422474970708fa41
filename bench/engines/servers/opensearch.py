"""OpenSearch: lexicon vectors as a field of rank features, dense vectors by the k-NN plugin (an HNSW graph of FAISS).

It needs a server (LEXLIP_BENCH_OPENSEARCH_URL); there is no embedded form. A lexicon query is a sum of linear
`rank_feature` clauses, which the plugin's `neural_sparse` query is rewritten to; it needs no plugin.

Notable choices
- Lucene stores nine significant bits of a feature (relative error up to 1/256). Integers up to 511 are exact, so 8-bit
  impacts lose nothing; 16-bit impacts and float32 weights do, so the engine is not called exact.
- One primary shard unless `primaries` is given, of one segment, without replica; the source of items is not stored.
- A k-NN score is a function of the inner product p (1 + p for p >= 0, 1 / (1 - p) below), which is inverted here.
"""

from bench.engines.contract import BY_URL
from bench.engines.servers import common as servers
from bench.engines.servers import environment
from bench.engines.servers.common import ServerEngine, Store
from models.errors import AbsentError, InputError, require

FIELD = "item"
ANSWER_FIELDS = ("status", "error.type", "error.reason", "hits.hits._id", "hits.hits._score")


class _OpenSearch(ServerEngine):
    product = "OPENSEARCH"

    def _store(self, folder, collection, served):
        if served != BY_URL:
            url = environment.variable(self.product, "URL")
            raise AbsentError(f"{url} is not set: opensearch has no embedded form; start a server and set its URL")
        return OpenSearchStore(self.kind, collection)


class OpenSearch(_OpenSearch):
    """Lexicon vectors as rank features; exact for 8-bit impacts. primaries: shards of the index (default 1)."""

    name, kind, exact, weights = "opensearch", "lexicon", False, (None, 8, 16)


class OpenSearchHnsw(_OpenSearch):
    """HNSW graph of FAISS over float32 vectors, approximate.

    m: neighbours per node (twice that at the bottom). ef_construction: candidates kept while inserting. primaries:
    shards of the index (default 1). Search knob `ef`: candidates kept while searching, at least the number of results.
    """

    name, kind, exact = "opensearch-hnsw", "dense", False


class OpenSearchStore(Store):
    """An index on a server."""

    def __init__(self, kind: str, collection: str):
        opensearchpy = require("opensearchpy", "opensearch", "opensearch-py")
        user, password = (environment.setting("OPENSEARCH", name) for name in ("USER", "PASSWORD"))
        self.helpers, self.kind, self.collection = opensearchpy.helpers, kind, collection
        options = {"timeout": servers.TIMEOUT_SECONDS, "max_retries": servers.RETRIES, "retry_on_timeout": True}
        options["http_auth"] = (user, password) if user else None
        self.client = opensearchpy.OpenSearch(environment.url("OPENSEARCH"), **options)

    def create(self, vectors, threads, *, m: int = 16, ef_construction: int = 100, primaries: int = 1, **knobs):
        settings = {"number_of_shards": primaries, "number_of_replicas": 0, "refresh_interval": "-1"}
        if self.kind == "lexicon":
            field = {"type": "rank_features"}
        else:
            settings["knn"] = True
            graph = {"m": m, "ef_construction": ef_construction}
            method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct", "parameters": graph}
            field = {"type": "knn_vector", "dimension": vectors.dimension, "method": method}
        mappings = {"_source": {"enabled": False}, "dynamic": False, "properties": {FIELD: field}}
        self.drop()
        self.client.indices.create(index=self.collection, body={"settings": {"index": settings}, "mappings": mappings})

    def add(self, ids, rows):
        """Items refused by a busy server (429) are sent again, with exponential backoff."""
        actions = (
            {"_index": self.collection, "_id": str(item), FIELD: self._document(vector)}
            for item, vector in servers.items(ids, rows)
        )
        # the helper retries only with raise_on_error=False
        options = {"chunk_size": len(ids), "max_retries": servers.RETRIES, "raise_on_error": False}
        for sent, answer in self.helpers.streaming_bulk(self.client, actions, **options):
            if not sent:
                of_item = answer["index"]
                raise _refused(self.collection, of_item.get("error") or {"type": f"status {of_item['status']}"})

    def finish(self):
        indices, seconds = self.client.indices, servers.INDEXING_SECONDS
        indices.forcemerge(index=self.collection, max_num_segments=1, request_timeout=seconds)
        indices.flush(index=self.collection, request_timeout=seconds)
        indices.refresh(index=self.collection)

    def load(self):
        pass  # a server keeps it ready

    def count(self):
        return self.client.count(index=self.collection)["count"]

    def bytes(self):
        stats = self.client.indices.stats(index=self.collection, metric="store")
        return stats["_all"]["total"]["store"]["size_in_bytes"]

    def query(self, vector):
        """A bool query; for a dense vector a list of floats, since the k-NN query around it contains k."""
        if self.kind == "dense":
            return vector.tolist()
        features = [
            {"field": f"{FIELD}.{_term(name)}", "linear": {}, "boost": weight}
            for name, weight in zip(*vector, strict=True)
        ]
        return {"bool": {"should": [{"rank_feature": feature} for feature in features]}}

    def search(self, queries, k, *, ef: int = 64, **knobs):
        lines = [line for query in queries for line in ({}, self._body(query, k, ef))]
        fields = ",".join(f"responses.{field}" for field in ANSWER_FIELDS)
        answers = self.client.msearch(index=self.collection, body=lines, filter_path=fields)["responses"]
        if problem := next((answer["error"] for answer in answers if "error" in answer), None):
            raise _refused(self.collection, problem)
        score = float if self.kind == "lexicon" else _inner_product
        hits_of_each = [answer.get("hits", {}).get("hits", []) for answer in answers]
        return [[(int(hit["_id"]), score(hit["_score"])) for hit in hits] for hits in hits_of_each]

    def drop(self):
        self.client.indices.delete(index=self.collection, ignore_unavailable=True)

    def close(self):
        self.client.close()

    def _document(self, vector):
        if self.kind == "dense":
            return vector.tolist()
        return {_term(name): weight for name, weight in zip(*vector, strict=True)}

    def _body(self, query, k: int, ef: int) -> dict:
        if self.kind == "dense":
            query = {"knn": {FIELD: {"vector": query, "k": k, "method_parameters": {"ef_search": max(ef, k)}}}}
        return {"size": k, "_source": False, "track_total_hits": False, "query": query}


def _term(lexicon: int) -> str:
    return f"l{lexicon}"


def _refused(collection: str, error: dict) -> InputError:
    """The server's error about an item or a query, without secrets."""
    said = ": ".join(filter(None, (collection, error.get("type"), error.get("reason"))))
    return InputError(environment.clean("OPENSEARCH", said))


def _inner_product(score: float) -> float:
    """The inner product of a k-NN score."""
    return score - 1 if score >= 1 else 1 - 1 / score
