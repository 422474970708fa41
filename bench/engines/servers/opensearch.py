"""OpenSearch: lexicon vectors as a field of rank features, dense vectors by the k-NN plugin (an HNSW graph of FAISS).

There is no embedded form: it needs a server, LEXLIP_BENCH_OPENSEARCH_URL. A query of lexicons is a sum of linear `rank_feature` clauses, which is
what the plugin's `neural_sparse` query becomes, and which needs no plugin.

Notable choices
- Lucene keeps nine significant bits of a feature (relative error up to 1/256): weights up to 511 that are integers are kept as they are, so 8-bit
  impacts lose nothing; 16-bit impacts and float32 weights do. Not called exact, for those.
- One primary shard unless `primaries` says otherwise, of one segment, no replica; items are not kept beside the index.
- Scores of k-NN are a function of the inner product (1 + p from 0 up, 1 / (1 - p) below), which is undone here.
"""

from bench.engines import BY_URL
from bench.engines.servers import common as servers
from bench.engines.servers.common import ServerEngine, Store
from models.errors import AbsentError, InputError, absent

FIELD = "item"
KEPT = "responses.status,responses.error.type,responses.error.reason,responses.hits.hits._id,responses.hits.hits._score"  # of an answer


class _OpenSearch(ServerEngine):
    product = "OPENSEARCH"

    def _store(self, folder, collection, served):
        if served != BY_URL:
            raise AbsentError(
                f"{servers.variable(self.product, 'URL')} is not set: opensearch has no embedded form; start a server and name its URL there"
            )
        return OpenSearchStore(self.kind, collection)


class OpenSearch(_OpenSearch):
    """Lexicon vectors, as rank features. primaries: shards of the index."""

    name, kind, exact, weights = "opensearch", "lexicon", False, (None, 8, 16)


class OpenSearchHnsw(_OpenSearch):
    """m: neighbours per node (twice that at the bottom); ef_construction, ef: candidates kept while inserting, searching; primaries: shards of the index."""

    name, kind, exact = "opensearch-hnsw", "dense", False


class OpenSearchStore(Store):
    """An index of a server."""

    def __init__(self, kind: str, collection: str):
        try:
            import opensearchpy
        except ImportError:
            raise absent("opensearch-py", "opensearch") from None
        user, password = (servers.setting("OPENSEARCH", name) for name in ("USER", "PASSWORD"))
        self.helpers, self.kind, self.collection = opensearchpy.helpers, kind, collection
        again = {"timeout": servers.TIMEOUT_SECONDS, "max_retries": servers.RETRIES, "retry_on_timeout": True}
        self.client = opensearchpy.OpenSearch(
            servers.url("OPENSEARCH"), http_auth=(user, password) if user else None, **again
        )

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
        """Items that the server has no room for (429) are sent again, after a pause that doubles."""
        actions = (
            {"_index": self.collection, "_id": str(item), FIELD: self._document(vector)}
            for item, vector in servers.items(ids, rows)
        )
        # the helper sends items again only if it is not to raise at the first that is refused
        sending = {"chunk_size": len(ids), "max_retries": servers.RETRIES, "raise_on_error": False}
        for sent, answer in self.helpers.streaming_bulk(self.client, actions, **sending):
            if not sent:
                raise _refused(
                    self.collection, answer["index"].get("error") or {"type": f"status {answer['index']['status']}"}
                )

    def finish(self):
        self.client.indices.forcemerge(
            index=self.collection, max_num_segments=1, request_timeout=servers.INDEXING_SECONDS
        )
        self.client.indices.flush(index=self.collection, request_timeout=servers.INDEXING_SECONDS)
        self.client.indices.refresh(index=self.collection)

    def load(self):
        pass  # the server has it ready

    def count(self):
        return self.client.count(index=self.collection)["count"]

    def bytes(self):
        stats = self.client.indices.stats(index=self.collection, metric="store")
        return stats["_all"]["total"]["store"]["size_in_bytes"]

    def query(self, vector):
        """A bool query; of a dense vector its list of numbers, because the k-NN query around it holds k."""
        if self.kind == "dense":
            return vector.tolist()
        features = [
            {"field": f"{FIELD}.{_term(name)}", "linear": {}, "boost": weight}
            for name, weight in zip(*vector, strict=True)
        ]
        return {"bool": {"should": [{"rank_feature": feature} for feature in features]}}

    def ask(self, queries, k, *, ef: int = 64, **knobs):
        lines = [line for query in queries for line in ({}, self._body(query, k, ef))]
        answers = self.client.msearch(index=self.collection, body=lines, filter_path=KEPT)["responses"]
        if problem := next((answer["error"] for answer in answers if "error" in answer), None):
            raise _refused(self.collection, problem)
        of_score = float if self.kind == "lexicon" else _product
        return [
            [(int(hit["_id"]), of_score(hit["_score"])) for hit in answer.get("hits", {}).get("hits", [])]
            for answer in answers
        ]

    def drop(self):
        self.client.indices.delete(index=self.collection, ignore_unavailable=True)

    def close(self):
        self.client.close()

    def _document(self, vector):
        return (
            {_term(name): weight for name, weight in zip(*vector, strict=True)}
            if self.kind == "lexicon"
            else vector.tolist()
        )

    def _body(self, query, k: int, ef: int) -> dict:
        if self.kind == "dense":
            query = {"knn": {FIELD: {"vector": query, "k": k, "method_parameters": {"ef_search": max(ef, k)}}}}
        return {"size": k, "_source": False, "track_total_hits": False, "query": query}


def _term(lexicon: int) -> str:
    return f"l{lexicon}"


def _refused(collection: str, error: dict) -> InputError:
    """What the server says of an item or of a query."""
    said = ": ".join(filter(None, (collection, error.get("type"), error.get("reason"))))
    return InputError(servers.clean("OPENSEARCH", said))


def _product(score: float) -> float:
    """The inner product that a k-NN score stands for."""
    return score - 1 if score >= 1 else 1 - 1 / score
