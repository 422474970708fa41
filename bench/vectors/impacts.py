"""Impacts: the top-k lexicons of each item, with weights quantised to small integers.

Luo et al., 2023 (arXiv 2302.02908): top-K, then rint(100 x weight) as an integer "term frequency", without zeros. The
two steps are separate functions, so the loss of each can be measured alone. One step is ours: a pruned unit vector is
made a unit vector again (`unit_again`). Cut ones are shorter the flatter their weights were, and the ranking of images
then depends on it; `lexlip-bench adaptive-pruning` measures both.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import scipy

from bench.vectors.format import sorted_csr
from bench.vectors.read import LexiconVectors
from bench.vectors.scales import PUBLISHED

SCALE = PUBLISHED[8]  # L2-normalised weights give impacts of at most 100, so 8 bits never saturate
DTYPES = {8: np.uint8, 16: np.uint16}
UNIT = 1e-3  # largest deviation of the length of a unit vector from 1: weights may be stored in half precision


def prune(rows: "scipy.sparse.csr_array", top_k: int | None) -> "scipy.sparse.csr_array":
    """Keeps the `top_k` largest weights of each row (None: all); ties go to the lower lexicon id.

    Rows of unit length have unit length again, see `unit_again`. Raises ValueError for a top_k below 1.
    """
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
        part.flags.writeable = False  # so that mapped and ordinary arrays have one numba type, compiled once
    _compiled_prune()(*parts, top_k, indptr, lexicons, weights)
    return unit_again(sorted_csr(weights, lexicons, indptr, rows.shape[1]), rows)


def unit_again(pruned: "scipy.sparse.csr_array", rows: "scipy.sparse.csr_array") -> "scipy.sparse.csr_array":
    """`pruned` with the rows scaled to unit length that had it in `rows`; others, such as SPLADE's, as they are."""
    before, after = _lengths(rows), _lengths(pruned)
    factors = np.ones(len(after), pruned.dtype)
    cut = (np.abs(before - 1) <= UNIT) & (after > 0)
    factors[cut] = before[cut] / after[cut]
    weights = pruned.data * np.repeat(factors, np.diff(pruned.indptr))
    return sorted_csr(weights, pruned.indices, pruned.indptr, pruned.shape[1])


def _lengths(rows: "scipy.sparse.csr_array") -> np.ndarray:
    """(N,) float64: Euclidean lengths of the rows."""
    lengths, filled = np.zeros(rows.shape[0]), np.diff(rows.indptr) > 0
    lengths[filled] = np.add.reduceat(
        np.square(rows.data, dtype=np.float32), rows.indptr[:-1][filled], dtype=np.float64
    )
    return np.sqrt(lengths)


def quantise(rows: "scipy.sparse.csr_array", scale: float = SCALE, bits: int = 8) -> "scipy.sparse.csr_array":
    """rint(scale x weight) as uint8 or uint16, without zeros; larger values saturate. Raises ValueError."""
    if bits not in DTYPES:
        raise ValueError(f"bits {bits}: expected 8 or 16")
    impacts = np.minimum(np.rint(np.float32(scale) * rows.data), np.iinfo(DTYPES[bits]).max).astype(DTYPES[bits])
    positive = impacts > 0
    if positive.all():
        return sorted_csr(impacts, rows.indices, rows.indptr, rows.shape[1])
    before = np.concatenate([[0], np.cumsum(positive, dtype=np.int64)])
    return sorted_csr(impacts[positive], rows.indices[positive], before[rows.indptr], rows.shape[1])


@dataclass(frozen=True)
class Impacts:
    """A lazy view of lexicon vectors through `prune` and `quantise`, with what engines need of `LexiconVectors`.

    top_k: lexicons per item, None = all. bits: 8, 16, or None for float32 weights. scale: of `quantise`.
    """

    vectors: LexiconVectors
    top_k: int | None = None
    bits: int | None = None
    scale: float = SCALE
    kind: str = field(default="lexicon", init=False)

    @property
    def count(self) -> int:
        """Number of items."""
        return self.vectors.count

    @property
    def dimension(self) -> int:
        """Number of lexicons V."""
        return self.vectors.dimension

    @property
    def dtype(self) -> np.dtype:
        """uint8, uint16 or float32."""
        return np.dtype(DTYPES.get(self.bits, np.float32))

    @property
    def folder(self) -> Path | None:
        """That of the vectors."""
        return self.vectors.folder

    @property
    def most_weights(self) -> int:
        """Number of weights before pruning and quantising, without reading them."""
        return self.vectors.most_weights

    def shards(self) -> "Iterator[scipy.sparse.csr_array]":
        """The shards in order, (rows, V)."""
        return map(self._of, self.vectors.shards())

    def rows(self, start: int, stop: int) -> "scipy.sparse.csr_array":
        """Items start..stop-1, (stop - start, V)."""
        return self._of(self.vectors.rows(start, stop))

    def head(self, count: int) -> "Impacts":
        """The first `count` items, or all if there are fewer."""
        return replace(self, vectors=self.vectors.head(count))

    def to_scipy(self) -> "scipy.sparse.csr_array":
        """All items, (N, V)."""
        return self.rows(0, self.count)

    def _of(self, rows: "scipy.sparse.csr_array") -> "scipy.sparse.csr_array":
        pruned = prune(rows, self.top_k)
        return pruned if self.bits is None else quantise(pruned, self.scale, self.bits)


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


@functools.cache
def _compiled_prune():
    """`_prune` as a numba kernel, compiled on first use; its import takes longer than most commands' flags need."""
    import numba

    return numba.njit(cache=True, nogil=True)(_prune)
