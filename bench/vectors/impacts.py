"""From lexicon weights to impacts: keep the strongest lexicons of each item, then quantise their weights to small integers.

Luo et al., 2023 (arXiv 2302.02908): top-K, then rint(100 x weight) as an integer "term frequency", zeros dropped. The two steps are
separate functions, so that the loss of each can be measured by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numba
import numpy as np
import scipy.sparse as sp

from bench.vectors.read import LexiconVectors

SCALE = 100.0  # the paper's; with L2-normalised weights no impact exceeds it, so 8 bits never saturate
DTYPES = {8: np.uint8, 16: np.uint16}


def prune(rows: sp.csr_array, top_k: int | None) -> sp.csr_array:
    """Keeps the `top_k` largest weights of each row (None: all); of equal weights the lower lexicon ids stay."""
    if top_k is None or not rows.nnz:
        return rows
    if top_k < 1:
        raise ValueError(f"top_k {top_k}: expected at least 1, or None for all")
    lengths = np.diff(rows.indptr)
    if lengths.max() <= top_k:
        return rows
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, top_k), dtype=np.int64)])
    lexicons, weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], rows.data.dtype)
    parts = [part.view() for part in (rows.indptr, rows.indices, rows.data)]
    for part in parts:
        part.flags.writeable = False  # memory-mapped or not: one type for numba, compiled once
    _prune(*parts, top_k, indptr, lexicons, weights)
    return _canonical(weights, lexicons, indptr, rows.shape)


def quantise(rows: sp.csr_array, scale: float = SCALE, bits: int = 8) -> sp.csr_array:
    """rint(scale x weight) as uint8 or uint16; what rounds to 0 is dropped, what exceeds the type stays at its largest value."""
    if bits not in DTYPES:
        raise ValueError(f"bits {bits}: expected 8 or 16")
    impacts = np.minimum(np.rint(np.float32(scale) * rows.data), np.iinfo(DTYPES[bits]).max).astype(DTYPES[bits])
    top_k = impacts > 0
    if top_k.all():
        return _canonical(impacts, rows.indices, rows.indptr, rows.shape)
    before = np.concatenate([[0], np.cumsum(top_k, dtype=np.int64)])
    return _canonical(impacts[top_k], rows.indices[top_k], before[rows.indptr], rows.shape)


@dataclass(frozen=True)
class Impacts:
    """Lexicon vectors seen through `prune` and `quantise`, shard by shard; nothing is computed before it is read.

    kept: lexicons per item, None = all. bits: 8, 16, or None for float32 weights. It has what engines ask of lexicon vectors.
    """

    vectors: LexiconVectors
    top_k: int | None = None
    bits: int | None = None
    scale: float = SCALE
    kind: str = field(default="lexicon", init=False)

    @property
    def count(self) -> int:
        return self.vectors.count

    @property
    def dimension(self) -> int:
        return self.vectors.dimension

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(DTYPES.get(self.bits, np.float32))

    def shards(self) -> Iterator[sp.csr_array]:
        return map(self._of, self.vectors.shards())

    def rows(self, start: int, stop: int) -> sp.csr_array:
        return self._of(self.vectors.rows(start, stop))

    def head(self, count: int) -> "Impacts":
        """The first `count` items, in memory."""
        return replace(self, vectors=self.vectors.head(count))

    def to_scipy(self) -> sp.csr_array:
        return self.rows(0, self.count)

    def _of(self, rows: sp.csr_array) -> sp.csr_array:
        pruned = prune(rows, self.top_k)
        return pruned if self.bits is None else quantise(pruned, self.scale, self.bits)


def _canonical(data, indices, indptr, shape) -> sp.csr_array:
    csr = sp.csr_array((data, indices, indptr), shape=shape, copy=False)
    csr.has_sorted_indices = csr.has_canonical_format = True
    return csr


@numba.njit(cache=True, nogil=True)
def _prune(indptr, lexicons, weights, top_k, out_indptr, out_lexicons, out_weights):
    for row in range(indptr.size - 1):
        start, stop, at = indptr[row], indptr[row + 1], out_indptr[row]
        length = stop - start
        if length <= top_k:
            out_lexicons[at : at + length] = lexicons[start:stop]
            out_weights[at : at + length] = weights[start:stop]
            continue
        smallest = np.partition(weights[start:stop], length - top_k)[length - top_k]
        ties = top_k - np.sum(weights[start:stop] > smallest)
        for i in range(start, stop):
            if weights[i] > smallest or (weights[i] == smallest and ties > 0):
                ties -= weights[i] == smallest
                out_lexicons[at] = lexicons[i]
                out_weights[at] = weights[i]
                at += 1
