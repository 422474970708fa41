"""FAISS's HNSW graph over float32 vectors.

Built on one thread the graph is always the same; on several, it depends on the order in which threads insert.
"""

from bench.engines.dense.faiss_common import FaissEngine


class FaissHnsw(FaissEngine):
    """IndexHNSWFlat. m: neighbours per node (twice that at the bottom); ef_construction, ef: candidates kept while inserting, searching.

    `ef` is at least the number of results asked for. Scores are inner products of the float32 vectors.
    """

    name = "faiss-hnsw"

    def make(self, faiss, dimension, count, *, m: int = 32, ef_construction: int = 200, **knobs):
        index = faiss.IndexHNSWFlat(dimension, m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = ef_construction
        return index

    def tune(self, found, *, ef: int = 64, **knobs):
        self.index.hnsw.efSearch = max(ef, found)
