"""Milvus: sparse vectors in an inverted index, searched exactly; dense vectors in HNSW, IVF or flat indexes.

Embedded it is milvus-lite, a database in the index's folder. **milvus-lite is Milvus's API over Python and FAISS, not
Milvus**: posting lists are Python dicts and each request visits all items, so its QPS is no estimate of a server's. By
URL (LEXLIP_BENCH_MILVUS_URL) it is a server, whose client retries by itself while the server is busy.

milvus-lite needs faiss-cpu, so it cannot be installed beside faiss-gpu.
"""

from pathlib import Path

from bench.engines.contract import BY_URL
from bench.engines.dense import faiss_index
from bench.engines.servers import common as servers
from bench.engines.servers import environment
from bench.engines.servers.common import ServerEngine, Store
from models.errors import require

ID, VECTOR = "id", "item"
FILE = "milvus.db"


class _Milvus(ServerEngine):
    product = "MILVUS"
    other_modules = ("bench.engines.servers.common", "bench.engines.dense.faiss_index")
    index_type: str

    def _store(self, folder, collection, served):
        return MilvusStore(self.index_type, collection, None if served == BY_URL else folder / FILE)


class Milvus(_Milvus):
    """Inverted index of lexicon vectors, exact: scores are float sums, exact for impacts below 2**24."""

    name, kind, exact, weights = "milvus", "lexicon", True, (None, 8, 16)
    index_type = "SPARSE_INVERTED_INDEX"


class MilvusFlat(_Milvus):
    """Exhaustive search over float32 vectors; exact."""

    name, kind, exact = "milvus-flat", "dense", True
    index_type = "FLAT"


class MilvusHnsw(_Milvus):
    """HNSW graph over float32 vectors, approximate.

    m: neighbours per node. ef_construction: candidates kept while inserting. Search knob `ef`: candidates kept while
    searching, at least the number of results.
    """

    name, kind, exact = "milvus-hnsw", "dense", False
    index_type = "HNSW"


class MilvusIvf(_Milvus):
    """Inverted lists of float32 vectors, approximate. As many lists as FAISS. Search knob `nprobe`: lists scanned."""

    name, kind, exact = "milvus-ivf-flat", "dense", False
    index_type = "IVF_FLAT"


class MilvusStore(Store):
    """A collection of a server, or of a database file."""

    def __init__(self, index_type: str, collection: str, file: Path | None):
        pymilvus = require("pymilvus", "milvus")
        self.index_type, self.collection, self.file, self.types = index_type, collection, file, pymilvus.DataType
        if file:
            self.lite = require("milvus_lite.server_manager", "milvus", "milvus-lite").server_manager_instance
            self.client = pymilvus.MilvusClient(str(file), timeout=servers.TIMEOUT_SECONDS)
        else:
            log_on = {name.lower(): environment.setting("MILVUS", name) for name in ("USER", "PASSWORD")}
            log_on["token"] = environment.setting("MILVUS", "API_KEY")
            self.client = pymilvus.MilvusClient(environment.url("MILVUS"), **log_on, timeout=servers.TIMEOUT_SECONDS)

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
            "IVF_FLAT": {"nlist": faiss_index.lists(vectors.count)},
        }
        built = of_type.get(self.index_type, {})
        self.index = self.client.prepare_index_params()
        # milvus-lite reads nested parameters, as pymilvus 2 sent them, and silently takes its defaults otherwise
        parameters = {"params": built} if self.file else built
        self.index.add_index(VECTOR, index_type=self.index_type, metric_type="IP", params=parameters)
        self.drop()
        self.client.create_collection(self.collection, schema=schema)

    def add(self, ids, rows):
        points = [{ID: item, VECTOR: self.query(vector)} for item, vector in servers.items(ids, rows)]
        self.client.insert(self.collection, points, timeout=servers.TIMEOUT_SECONDS)

    def finish(self):
        self.client.flush(self.collection, timeout=servers.INDEXING_SECONDS)
        self.client.create_index(self.collection, self.index, timeout=servers.INDEXING_SECONDS)  # waits
        self.load()

    def load(self):
        self.client.load_collection(self.collection, timeout=servers.INDEXING_SECONDS)

    def count(self):
        field = "count(*)"
        [row] = self.client.query(self.collection, filter="", output_fields=[field], consistency_level="Strong")
        return row[field]

    def query(self, vector):
        return dict(zip(*vector, strict=True)) if isinstance(vector, tuple) else vector

    def search(self, queries, k, *, ef: int = 64, nprobe: int = 16, **knobs):
        of_type = {
            "SPARSE_INVERTED_INDEX": {"drop_ratio_search": 0.0},
            "HNSW": {"ef": max(ef, k)},
            "IVF_FLAT": {"nprobe": nprobe},
        }
        parameters = {"metric_type": "IP", "params": of_type.get(self.index_type, {})}
        options = {"anns_field": VECTOR, "search_params": parameters, "timeout": servers.TIMEOUT_SECONDS}
        answers = self.client.search(self.collection, queries, limit=k, **options)
        return [[(hit[ID], hit["distance"]) for hit in hits] for hits in answers]

    def drop(self):
        if self.client.has_collection(self.collection):
            self.client.drop_collection(self.collection)

    def close(self):
        self.client.close()
        if self.file:
            self.lite.release_server(str(self.file))
