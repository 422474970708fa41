"""Milvus: sparse vectors in an inverted index, searched exactly; dense vectors in HNSW, IVF or flat indexes.

Embedded it is milvus-lite, a database in the index's folder. **It is Milvus's interface over Python and FAISS, not Milvus**: posting lists are Python
dictionaries, and each request walks over all items, so its rates say nothing of a server's. By URL (LEXLIP_BENCH_MILVUS_URL) it is a server.
The client waits and asks again by itself when a server is busy.

milvus-lite needs faiss-cpu, so it cannot be installed beside faiss-gpu.
"""

from pathlib import Path

from bench.engines import BY_URL
from bench.engines.dense import faiss_common
from bench.engines.servers import common as servers
from bench.engines.servers.common import ServerEngine, Store
from models.errors import absent

ID, VECTOR = "id", "item"
FILE = "milvus.db"


class _Milvus(ServerEngine):
    product = "MILVUS"
    parts = ("bench.engines.servers.common", "bench.engines.dense.faiss_common")
    index_type: str

    def _store(self, folder, collection, served):
        return MilvusStore(self.index_type, collection, None if served == BY_URL else folder / FILE)


class Milvus(_Milvus):
    """Lexicon vectors. Scores are sums of float32 or float64: exact for impacts while they stay below 2**24."""

    name, kind, exact, weights = "milvus", "lexicon", True, (None, 8, 16)
    index_type = "SPARSE_INVERTED_INDEX"


class MilvusFlat(_Milvus):
    name, kind, exact = "milvus-flat", "dense", True
    index_type = "FLAT"


class MilvusHnsw(_Milvus):
    """m: neighbours per node; ef_construction, ef: candidates kept while inserting, searching; `ef` is at least the number of results asked for."""

    name, kind, exact = "milvus-hnsw", "dense", False
    index_type = "HNSW"


class MilvusIvf(_Milvus):
    """Float32 vectors in lists, as many as the FAISS engines have; nprobe: lists that a query looks at."""

    name, kind, exact = "milvus-ivf-flat", "dense", False
    index_type = "IVF_FLAT"


class MilvusStore(Store):
    """A collection of a server, or of a database file."""

    def __init__(self, index_type: str, collection: str, file: Path | None):
        try:
            from pymilvus import DataType, MilvusClient
        except ImportError:
            raise absent("pymilvus", "milvus") from None
        self.index_type, self.collection, self.file, self.types = index_type, collection, file, DataType
        if file:
            try:
                from milvus_lite.server_manager import server_manager_instance
            except ImportError:
                raise absent("milvus-lite", "milvus") from None
            self.lite = server_manager_instance
            self.client = MilvusClient(str(file), timeout=servers.TIMEOUT_SECONDS)
        else:
            log_on = {name.lower(): servers.setting("MILVUS", name) for name in ("USER", "PASSWORD")}
            log_on["token"] = servers.setting("MILVUS", "API_KEY")
            self.client = MilvusClient(servers.url("MILVUS"), **log_on, timeout=servers.TIMEOUT_SECONDS)

    def create(self, vectors, threads, *, m: int = 16, ef_construction: int = 100, **knobs):
        sparse = self.index_type == "SPARSE_INVERTED_INDEX"
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ID, self.types.INT64, is_primary=True)
        if sparse:
            schema.add_field(VECTOR, self.types.SPARSE_FLOAT_VECTOR)
        else:
            schema.add_field(VECTOR, self.types.FLOAT_VECTOR, dim=vectors.dimension)
        of_type = {
            "HNSW": {"M": m, "efConstruction": ef_construction},
            "IVF_FLAT": {"nlist": faiss_common.lists(vectors.count)},
        }
        built = of_type.get(self.index_type, {})
        self.index = self.client.prepare_index_params()
        # milvus-lite reads them in a dictionary of their own, where pymilvus 2 put them, and else takes its defaults without a word
        self.index.add_index(
            VECTOR, index_type=self.index_type, metric_type="IP", params={"params": built} if self.file else built
        )
        self.drop()
        self.client.create_collection(self.collection, schema=schema)

    def add(self, ids, rows):
        points = [{ID: item, VECTOR: self.query(vector)} for item, vector in servers.items(ids, rows)]
        self.client.insert(self.collection, points, timeout=servers.TIMEOUT_SECONDS)

    def finish(self):
        self.client.flush(self.collection, timeout=servers.INDEXING_SECONDS)
        self.client.create_index(self.collection, self.index, timeout=servers.INDEXING_SECONDS)  # which waits for it
        self.load()

    def load(self):
        self.client.load_collection(self.collection, timeout=servers.INDEXING_SECONDS)

    def count(self):
        return self.client.query(self.collection, filter="", output_fields=["count(*)"], consistency_level="Strong")[0][
            "count(*)"
        ]

    def query(self, vector):
        return dict(zip(*vector, strict=True)) if isinstance(vector, tuple) else vector

    def ask(self, queries, k, *, ef: int = 64, nprobe: int = 16, **knobs):
        of_type = {
            "SPARSE_INVERTED_INDEX": {"drop_ratio_search": 0.0},
            "HNSW": {"ef": max(ef, k)},
            "IVF_FLAT": {"nprobe": nprobe},
        }
        parameters = {"metric_type": "IP", "params": of_type.get(self.index_type, {})}
        answers = self.client.search(
            self.collection,
            queries,
            limit=k,
            anns_field=VECTOR,
            search_params=parameters,
            timeout=servers.TIMEOUT_SECONDS,
        )
        return [[(hit[ID], hit["distance"]) for hit in hits] for hits in answers]

    def drop(self):
        if self.client.has_collection(self.collection):
            self.client.drop_collection(self.collection)

    def close(self):
        self.client.close()
        if self.file:
            self.lite.release_server(str(self.file))
