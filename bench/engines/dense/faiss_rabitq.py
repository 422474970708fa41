"""FAISS's inverted lists over RaBitQ codes: one bit a dimension, after a random rotation, with a correction per item (fast scan).

Source: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate Nearest Neighbor Search",
SIGMOD 2024. Meant to be refined; without, scores are estimates from single bits.
"""

from bench.engines.dense.faiss_common import FaissIvf, lists, refined


class FaissRabitq(FaissIvf):
    """Bytes of an item: D / 8, 8 for its factors and 8 for its id; with `refine` SQ8 another D, with Flat 4 D."""

    name = "faiss-rabitq"

    def make(self, faiss, dimension, count, *, refine: str | None = "SQ8", **knobs):
        recipe = refined(f"RR{dimension},IVF{lists(count)},RaBitQfs", refine)
        return faiss.index_factory(dimension, recipe, faiss.METRIC_INNER_PRODUCT)
