"""Qdrant: sparse vectors in an inverted index, searched exactly; dense vectors in an HNSW graph.

Embedded it is `qdrant-edge-py`, Qdrant's own segments and indexes in this process, not the local mode of
`qdrant-client`, which is brute force in Python. By URL (LEXLIP_BENCH_QDRANT_URL) it is the same collection on a server,
over HTTP.

Notable choices
- All items are indexed and the graph is searched at every size (thresholds of 1 and 10 KB); Qdrant's defaults scan
  small collections.
- The embedded form has one segment and holds the GIL: queries run on one thread, whatever `threads` is.
- Its files are preallocated, so bytes on disk count the blocks that hold data.
"""

import shutil
import time
from pathlib import Path

from bench.engines.contract import BY_URL, index_files
from bench.engines.servers import common as servers
from bench.engines.servers import environment
from bench.engines.servers.common import ServerEngine, Store
from models.errors import InputError, require

VECTOR = "item"
SHARD = "shard"
INDEX_FROM_KB, SCAN_BELOW_KB = 1, 10
POLL_SECONDS = 0.1
BLOCK = 512  # bytes, the unit of st_blocks


class _Qdrant(ServerEngine):
    product = "QDRANT"

    def _store(self, folder, collection, served):
        return ServerStore(self.kind, collection) if served == BY_URL else EdgeStore(self.kind, folder / SHARD)

    def bytes_on_disk(self, folder):
        size = super().bytes_on_disk(folder)
        about = [file.stat() for file in index_files(folder)]
        if size is None or not hasattr(about[0], "st_blocks"):
            return size
        return min(size, sum(BLOCK * file.st_blocks for file in about))


class Qdrant(_Qdrant):
    """Inverted index of lexicon vectors, exact: scores are float32 sums, exact for impacts below 2**24. No knobs."""

    name, kind, exact, weights = "qdrant", "lexicon", True, (None, 8, 16)


class QdrantHnsw(_Qdrant):
    """HNSW graph over float32 vectors, approximate.

    m: neighbours per node (twice that at the bottom). ef_construction: candidates kept while inserting. Search knob
    `ef`: candidates kept while searching.
    """

    name, kind, exact = "qdrant-hnsw", "dense", False


class EdgeStore(Store):
    """A shard in this process."""

    def __init__(self, kind: str, path: Path):
        self.edge = require("qdrant_edge", "qdrant", "qdrant-edge-py")
        self.kind, self.path, self.shard = kind, path, None

    def create(self, vectors, threads, *, m: int = 16, ef_construction: int = 100, **knobs):
        edge = self.edge
        if self.kind == "lexicon":
            of_kind = {"sparse_vectors": {VECTOR: edge.EdgeSparseVectorParams()}}
        else:
            graph = edge.HnswIndexConfig(m, ef_construction, SCAN_BELOW_KB, max_indexing_threads=threads)
            dense = edge.EdgeVectorParams(vectors.dimension, edge.Distance.Dot, hnsw_config=graph)
            of_kind = {"vectors": {VECTOR: dense}}
        optimizers = edge.EdgeOptimizersConfig(indexing_threshold=INDEX_FROM_KB, default_segment_number=1)
        self.drop()
        self.path.mkdir(parents=True)
        configuration = edge.EdgeConfig(**of_kind, optimizers=optimizers, wal_enabled=False)
        self.shard = edge.EdgeShard.create(str(self.path), configuration)

    def add(self, ids, rows):
        points = [self.edge.Point(item, {VECTOR: self._vector(vector)}) for item, vector in servers.items(ids, rows)]
        self.shard.update(self.edge.UpdateOperation.upsert_points(points))

    def finish(self):
        self.shard.optimize()
        self.shard.flush()
        self.close()
        self.load()  # the first load changes the configuration file, whose size and CRC-32 an index records

    def load(self):
        self.shard = self.edge.EdgeShard.load(str(self.path))

    def count(self):
        return self.shard.info().points_count

    def query(self, vector):
        return self.edge.Query.Nearest(self._vector(vector), using=VECTOR)

    def search(self, queries, k, *, ef: int | None = None, **knobs):
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
    """A collection on a server, over HTTP."""

    def __init__(self, kind: str, collection: str):
        package = require("qdrant_client", "qdrant", "qdrant-client")
        address, key = environment.url("QDRANT"), environment.setting("QDRANT", "API_KEY") or None
        self.client = package.QdrantClient(url=address, api_key=key, timeout=servers.TIMEOUT_SECONDS)
        self.models, self.kind, self.collection = package.models, kind, collection

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
        """Leaves the client's `parallel` at 1: its processes print tracebacks and raise errors without their cause."""
        point = self.models.PointStruct
        points = [point(id=item, vector={VECTOR: self.query(vector)}) for item, vector in servers.items(ids, rows)]
        options = {"batch_size": len(points), "max_retries": servers.RETRIES, "wait": True}
        self.client.upload_points(self.collection, points, **options)

    def finish(self):
        end = time.monotonic() + servers.INDEXING_SECONDS
        while (status := self.client.get_collection(self.collection).status) != self.models.CollectionStatus.GREEN:
            if status == self.models.CollectionStatus.RED or time.monotonic() > end:
                expected = f"expected green within {servers.INDEXING_SECONDS} s"
                raise InputError(f"{self.collection}: its status is {status.value}, {expected}")
            time.sleep(POLL_SECONDS)

    def load(self):
        pass  # a server keeps it ready

    def count(self):
        return self.client.count(self.collection, exact=True).count

    def query(self, vector):
        if self.kind == "dense":
            return vector.tolist()
        return self.models.SparseVector(indices=vector[0], values=vector[1])

    def search(self, queries, k, *, ef: int | None = None, **knobs):
        models = self.models
        of_all = {"using": VECTOR, "limit": k, "params": models.SearchParams(hnsw_ef=ef), "with_payload": False}
        requests = [models.QueryRequest(query=query, **of_all) for query in queries]
        answers = self.client.query_batch_points(self.collection, requests)
        return [[(hit.id, hit.score) for hit in answer.points] for answer in answers]

    def drop(self):
        self.client.delete_collection(self.collection)  # returns False if there is none

    def close(self):
        self.client.close()
