"""FAISS's inverted lists over vectors of 8 bits a dimension (scalar quantisation). `refine: Flat` keeps the float32 vectors beside them."""

from bench.engines.dense.faiss_common import FaissIvf, lists, refined


class FaissIvfSq8(FaissIvf):
    """Bytes of an item: D and 8 for its id; with `refine` Flat 4 D more."""

    name = "faiss-ivf-sq8"

    def make(self, faiss, dimension, count, *, refine: str | None = None, **knobs):
        return faiss.index_factory(dimension, refined(f"IVF{lists(count)},SQ8", refine), faiss.METRIC_INNER_PRODUCT)
