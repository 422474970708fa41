"""Qdrant: sparse vectors in an inverted index, searched exactly; dense vectors in an HNSW graph.

Embedded it is `qdrant-edge-py`, Qdrant's own segments and indexes in this process, and not the local mode of `qdrant-client`, which is brute
force in Python. By URL (LEXLIP_BENCH_QDRANT_URL) it is the same collection on a server, over HTTP.

Notable choices
- Everything is indexed and the graph is searched at every size (thresholds of 1 and 10 KB): by default Qdrant scans small collections.
- The embedded one holds one segment and Python's lock: a query, or a batch, is answered on one thread whatever `threads` says.
- Its files are laid out in advance, so that bytes on disk are the blocks that hold data.
"""

import shutil
import time
from pathlib import Path

from bench.engines import BY_URL
from bench.engines.servers import common as servers
from bench.engines.servers.common import ServerEngine, Store
from models.errors import InputError, absent

VECTOR = "item"
SHARD = "shard"
INDEX_FROM_KB, SCAN_BELOW_KB = 1, 10
POLL_SECONDS = 0.1
BLOCK = 512  # bytes of the unit that st_blocks counts in


class _Qdrant(ServerEngine):
    product = "QDRANT"

    def _store(self, folder, collection, served):
        return ServerStore(self.kind, collection) if served == BY_URL else EdgeStore(self.kind, folder / SHARD)

    def bytes_on_disk(self, folder):
        if (bytes_there := super().bytes_on_disk(folder)) is None:
            return None
        about = [file.stat() for file in Path(folder).rglob("*") if file.is_file()]
        return (
            min(bytes_there, sum(BLOCK * file.st_blocks for file in about))
            if hasattr(about[0], "st_blocks")
            else bytes_there
        )


class Qdrant(_Qdrant):
    """Lexicon vectors. Scores are sums of float32: exact for impacts while they stay below 2**24."""

    name, kind, exact, weights = "qdrant", "lexicon", True, (None, 8, 16)


class QdrantHnsw(_Qdrant):
    """m: neighbours per node (twice that at the bottom); ef_construction, ef: candidates kept while inserting, searching."""

    name, kind, exact = "qdrant-hnsw", "dense", False


class EdgeStore(Store):
    """A shard in this process."""

    def __init__(self, kind: str, path: Path):
        try:
            import qdrant_edge
        except ImportError:
            raise absent("qdrant-edge-py", "qdrant") from None
        self.edge, self.kind, self.path, self.shard = qdrant_edge, kind, path, None

    def create(self, vectors, threads, *, m: int = 16, ef_construction: int = 100, **knobs):
        edge = self.edge
        if self.kind == "lexicon":
            of_kind = {"sparse_vectors": {VECTOR: edge.EdgeSparseVectorParams()}}
        else:
            graph = edge.HnswIndexConfig(m, ef_construction, SCAN_BELOW_KB, max_indexing_threads=threads)
            of_kind = {
                "vectors": {VECTOR: edge.EdgeVectorParams(vectors.dimension, edge.Distance.Dot, hnsw_config=graph)}
            }
        optimizers = edge.EdgeOptimizersConfig(indexing_threshold=INDEX_FROM_KB, default_segment_number=1)
        self.drop()
        self.path.mkdir(parents=True)
        self.shard = edge.EdgeShard.create(
            str(self.path), edge.EdgeConfig(**of_kind, optimizers=optimizers, wal_enabled=False)
        )

    def add(self, ids, rows):
        points = [self.edge.Point(item, {VECTOR: self._vector(vector)}) for item, vector in servers.items(ids, rows)]
        self.shard.update(self.edge.UpdateOperation.upsert_points(points))

    def finish(self):
        self.shard.optimize()
        self.shard.flush()
        self.close()
        self.load()  # the first one adds to its configuration, whose size an index states

    def load(self):
        self.shard = self.edge.EdgeShard.load(str(self.path))

    def count(self):
        return self.shard.info().points_count

    def query(self, vector):
        return self.edge.Query.Nearest(self._vector(vector), using=VECTOR)

    def ask(self, queries, k, *, ef: int | None = None, **knobs):
        parameters = self.edge.SearchParams(hnsw_ef=ef)
        requests = [self.edge.QueryRequest(k, query=query, params=parameters) for query in queries]
        answers = self.shard.query_batch(self.edge.QueryBatchRequest(requests))
        return [[(hit.id, hit.score) for hit in hits] for hits in answers]

    def drop(self):
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self):
        if self.shard:
            self.shard.close()
            self.shard = None

    def _vector(self, vector):
        return self.edge.SparseVector(*vector) if self.kind == "lexicon" else vector.tolist()


class ServerStore(Store):
    """A collection of a server, by its HTTP interface."""

    def __init__(self, kind: str, collection: str):
        try:
            from qdrant_client import QdrantClient, models
        except ImportError:
            raise absent("qdrant-client", "qdrant") from None
        key = servers.setting("QDRANT", "API_KEY") or None
        self.client = QdrantClient(url=servers.url("QDRANT"), api_key=key, timeout=servers.TIMEOUT_SECONDS)
        self.models, self.kind, self.collection = models, kind, collection

    def create(self, vectors, threads, *, m: int = 16, ef_construction: int = 100, **knobs):
        models = self.models
        if self.kind == "lexicon":
            of_kind = {"vectors_config": {}, "sparse_vectors_config": {VECTOR: models.SparseVectorParams()}}
        else:
            graph = models.HnswConfigDiff(m=m, ef_construct=ef_construction, full_scan_threshold=SCAN_BELOW_KB)
            dense = models.VectorParams(size=vectors.dimension, distance=models.Distance.DOT, hnsw_config=graph)
            of_kind = {"vectors_config": {VECTOR: dense}}
        optimizers = models.OptimizersConfigDiff(indexing_threshold=INDEX_FROM_KB)
        self.drop()
        self.client.create_collection(self.collection, **of_kind, optimizers_config=optimizers)

    def add(self, ids, rows):
        """The client's own `parallel` is left at 1: its processes print a traceback of what fails, and raise an error that does not say what it was."""
        points = [
            self.models.PointStruct(id=item, vector={VECTOR: self.query(vector)})
            for item, vector in servers.items(ids, rows)
        ]
        self.client.upload_points(
            self.collection, points, batch_size=len(points), max_retries=servers.RETRIES, wait=True
        )

    def finish(self):
        end = time.monotonic() + servers.INDEXING_SECONDS
        while (status := self.client.get_collection(self.collection).status) != self.models.CollectionStatus.GREEN:
            if status == self.models.CollectionStatus.RED or time.monotonic() > end:
                raise InputError(
                    f"{self.collection}: its status is {status.value}, expected green within {servers.INDEXING_SECONDS} s"
                )
            time.sleep(POLL_SECONDS)

    def load(self):
        pass  # the server has it ready

    def count(self):
        return self.client.count(self.collection, exact=True).count

    def query(self, vector):
        return (
            self.models.SparseVector(indices=vector[0], values=vector[1]) if self.kind == "lexicon" else vector.tolist()
        )

    def ask(self, queries, k, *, ef: int | None = None, **knobs):
        models = self.models
        of_all = {"using": VECTOR, "limit": k, "params": models.SearchParams(hnsw_ef=ef), "with_payload": False}
        requests = [models.QueryRequest(query=query, **of_all) for query in queries]
        answers = self.client.query_batch_points(self.collection, requests)
        return [[(hit.id, hit.score) for hit in answer.points] for answer in answers]

    def drop(self):
        self.client.delete_collection(self.collection)  # False when there is none

    def close(self):
        self.client.close()
