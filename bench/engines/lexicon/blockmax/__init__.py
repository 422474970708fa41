"""`impact` with blocks that are skipped: exact, and faster over many documents if queries have few lexicons.

Documents are ordered so that neighbours share lexicons (recursive graph bisection) and cut into blocks. A query
computes the best possible score of each block, and scores the documents of the blocks that may hold one of the k best,
as block-max indexes do (Ding and Suel, 2011; Mallia et al., 2024, arXiv 2405.01117). `kernels` says how.
`lexlip-bench block-bounds` tells beforehand how much can be skipped.

Files, memory-mapped: `ids.npy`, the id of each document in the index's order; `first.npy`, `lexicons.npy` and
`impacts.npy`, their CSR rows; `tops.npy`, the highest impact of each lexicon; the others, that in each block.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.engines import ranking
from bench.engines.contract import Engine
from bench.vectors.read import load_mapped
from models.errors import InputError
from models.files import read_json, write_json

DOCUMENTS = ("ids", "first", "lexicons", "impacts")
MAXIMA = ("column_of", "columns", "list_starts", "list_blocks", "list_maxima")
ARRAYS = (*DOCUMENTS, *MAXIMA, "tops")
SLICES_PER_THREAD = 8  # parts of a batch per thread, so that threads finish together
SEED = 0


class ImpactBlockmax(Engine):
    """Exact; impacts of 8 bits; no knobs. Threads divide a batch by queries; a single query uses one."""

    name, kind, exact, weights, compiles = "impact-blockmax", "lexicon", True, (8,), True
    other_modules = (
        "bench.engines.lexicon.blockmax.bisection",
        "bench.engines.lexicon.blockmax.kernels",
        "bench.engines.lexicon.impact_kernels",
    )

    def __init__(self):
        self._scratch = {}

    def build(self, vectors, folder, threads=1, **knobs):
        """Orders the documents, then writes them and the maxima of their blocks. Memory: all impacts three times."""
        folder, kernels = Path(folder), _kernels()
        self.check_impacts(vectors)
        given = sp.vstack([sp.csr_array((0, vectors.dimension), dtype=vectors.dtype), *vectors.shards()], format="csr")
        order = bisected(given, threads=threads)
        rows = given[order]
        first = rows.indptr.astype(np.uint32 if rows.nnz < 2**32 else np.uint64)
        lexicons = rows.indices.astype(np.uint16 if vectors.dimension <= 2**16 else np.uint32)
        documents = order.astype(np.uint32), first, lexicons, rows.data
        maxima = kernels.maxima(rows.indptr.astype(np.int64), lexicons, rows.data, vectors.dimension)
        arrays = *documents, *maxima, kernels.highest(*maxima)
        for name, array in zip(ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", array)
        write_json(folder / "blockmax.json", {"block": kernels.BLOCK})

    def open(self, folder):
        folder, kernels = Path(folder), _kernels()
        arrays = {name: load_mapped(folder / f"{name}.npy") for name in ARRAYS}
        self.count, self.dimension = len(arrays["ids"]), len(arrays["tops"])
        self.blocks, total, listed = -(-self.count // kernels.BLOCK), len(arrays["impacts"]), len(arrays["list_maxima"])
        fits = (
            read_json(folder / "blockmax.json")["block"] == kernels.BLOCK
            and len(arrays["first"]) == self.count + 1
            and int(arrays["first"][-1]) == len(arrays["lexicons"]) == total
            and arrays["columns"].shape == (int((arrays["column_of"] >= 0).sum()), self.blocks)
            and len(arrays["column_of"]) == len(arrays["list_starts"]) - 1 == self.dimension
            and int(arrays["list_starts"][-1]) == len(arrays["list_blocks"]) == listed
        )
        if not fits:
            raise InputError(f"{folder}: the parts of the index do not match; build the index again (--force)")
        for array in arrays.values():
            array.flags.writeable = False
        self.documents, self.maxima = (tuple(arrays[name] for name in names) for names in (DOCUMENTS, MAXIMA))
        self.tops = arrays["tops"]
        self.id_bits = max(1, (self.count - 1).bit_length())
        return self

    def search(self, queries, k, threads=1, **knobs):
        """queries: CSR array (Q, V) of unsigned integers."""
        self.check_queries(queries, self.dimension)
        total = queries.shape[0]
        ids, scores = ranking.empty(total, k)
        if not (self.count and k and queries.nnz):
            return ids, scores
        keys = np.zeros((total, min(k, self.count)), np.uint64)
        rows = queries.indptr.astype(np.int64), queries.indices.astype(np.int32), queries.data.astype(np.uint32)
        dtype = self._accumulator(*rows)
        rows = *rows[:2], rows[2].astype(dtype, copy=False)

        def score(part: tuple[int, int]) -> None:
            scratch = self._take(dtype)
            _kernels().search(*rows, part, self.documents, self.maxima, self.id_bits, *scratch, keys)
            self._scratch[dtype].append(scratch)

        if threads == 1 or total == 1:
            score((0, total))
        else:
            parts = min(total, threads * SLICES_PER_THREAD)
            ends = [total * part // parts for part in range(parts + 1)]
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(score, zip(ends, ends[1:], strict=False)))
        _kernels().unpack(keys, self.id_bits, ids, scores)
        return ids, scores

    def close(self):
        self._scratch = {}

    def _accumulator(self, indptr, lexicons, weights) -> type:
        """The narrowest type that the bound of no block overflows."""
        largest = _kernels().largest(indptr, lexicons, weights, self.tops)
        if largest >= 2**32:
            raise InputError(f"{self.name}: scores may exceed 32 bits; quantise with a smaller scale")
        return np.uint16 if largest < 2**16 else np.uint32

    def _take(self, dtype) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the blocks, and weights by lexicon, zero: memory that no other thread uses."""
        free = self._scratch.setdefault(dtype, deque())
        try:
            return free.pop()
        except IndexError:
            return np.zeros(self.blocks, dtype), np.zeros(self.dimension, np.uint32)


def bisected(documents: sp.csr_array, seed: int = SEED, threads: int = 1) -> np.ndarray:
    """An order (N,) int64 of documents by recursive graph bisection (Dhulipala et al., 2016, arXiv 1602.08820).

    Halves share few lexicons: each exchanges documents with the other as long as that lowers the estimated bits of the
    gaps in all posting lists. Starts from a random order. The number of threads does not change the order.
    """
    from bench.engines.lexicon.blockmax.bisection import LEAF, bisect

    order_N = np.random.default_rng(seed).permutation(documents.shape[0])
    arrays = documents.indptr.astype(np.int64), documents.indices.astype(np.int32), documents.shape[1], order_N
    parts = [(0, len(order_N))]
    with ThreadPoolExecutor(threads) as pool:
        while len(parts) < threads and len(order_N) > LEAF * threads:
            list(pool.map(lambda part: bisect(*arrays, *part, part[1] - part[0] - 1), parts))
            parts = [half for begin, end in parts for half in ((begin, (begin + end) // 2), ((begin + end) // 2, end))]
        list(pool.map(lambda part: bisect(*arrays, *part, LEAF), parts))
    return order_N


def _kernels():
    """`kernels`, whose numba takes a second to import."""
    from bench.engines.lexicon.blockmax import kernels

    return kernels
