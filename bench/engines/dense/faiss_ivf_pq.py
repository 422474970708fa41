"""FAISS's inverted lists over product-quantised vectors, 4 bits a code so that a scan looks codes up inside registers (fast scan).

Codes are of the residual to the centre of the cell (`fsr`), which is shorter than the vector, so that the same bits say more of it.
"""

from bench.engines.dense.faiss_common import FaissIvf, lists, refined
from models.errors import InputError


class FaissIvfPq(FaissIvf):
    """Bytes of an item: D / (2 per_code) and 8 for its id; with `refine` SQ8 another D, with Flat 4 D.

    per_code: dimensions that one 4-bit code stands for; must divide D.
    """

    name = "faiss-ivf-pq"

    def make(self, faiss, dimension, count, *, per_code: int = 2, refine: str | None = "SQ8", **knobs):
        return faiss.index_factory(
            dimension,
            refined(f"IVF{lists(count)},PQ{codes(dimension, per_code)}x4fsr", refine),
            faiss.METRIC_INNER_PRODUCT,
        )


def codes(dimension: int, per_code: int) -> int:
    """Codes of a vector. Raises InputError where they do not come out even."""
    if dimension % per_code:
        raise InputError(f"per_code {per_code}: expected a divisor of the {dimension} dimensions")
    return dimension // per_code
