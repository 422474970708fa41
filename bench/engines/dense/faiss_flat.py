"""FAISS's exact inner-product index over float32 vectors: the dense yardstick."""

from bench.engines.dense.faiss_common import FaissEngine


class FaissFlat(FaissEngine):
    """IndexFlatIP. Of documents with equal float32 scores at the k-th place, FAISS chooses which one is returned."""

    name, exact = "faiss-flat", True
    file = "flat.faiss"

    def make(self, faiss, dimension, count, **knobs):
        return faiss.IndexFlatIP(dimension)
