"""`impact` in two steps: candidates by the strongest lexicons of the query, then exact scores of the candidates.

Source of the idea: Lassance et al., 2024, "Two-Step SPLADE: Simple, Efficient and Effective Approximation of SPLADE"
(arXiv 2404.13357). The first step is exact over the whole index with a cut query. The second step reads the candidates
from a forward store: the impacts by document, beside the posting lists. Both count in the bytes of the index.

Files beside those of `impact`, memory-mapped: `first.npy`, where each document starts; `document_lexicons.npy`, uint16
if all lexicons fit; `document_impacts.npy`.
"""

import functools
from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.lexicon.impact import Impact, _cut, _frozen, _read_only
from bench.vectors.read import load_mapped
from models.errors import InputError
from models.files import mapped_array

FIRST, LEXICONS, IMPACTS = "first.npy", "document_lexicons.npy", "document_impacts.npy"


class ImpactTwoStep(Impact):
    """Approximate; impacts of 8 or 16 bits. The scores of the results are exact.

    Search knobs: `query_lexicons`, the strongest lexicons of a query that the first step uses; `candidates`, number of
    documents whose scores are computed exactly, at least k.
    """

    name, exact = "impact-two-step", False
    other_modules = (
        "bench.engines.lexicon.impact",
        "bench.engines.lexicon.impact_kernels",
        "bench.engines.lexicon.two_step_kernels",
    )

    def build(self, vectors, folder, threads=1, **knobs):
        """As `impact`, then the forward store. Memory: as `impact`."""
        super().build(vectors, folder, threads)
        folder, sizes = Path(folder), [np.diff(shard.indptr) for shard in vectors.shards()]
        first_N1 = np.concatenate([np.zeros(1, np.int64), *sizes]).cumsum()
        total = int(first_N1[-1])
        np.save(folder / FIRST, first_N1.astype(np.uint32 if total < 2**32 else np.uint64))
        narrow = np.uint16 if vectors.dimension <= 2**16 else np.uint32
        lexicons = mapped_array(folder / LEXICONS, narrow, (total,)) if total else np.zeros(0, narrow)
        impacts = mapped_array(folder / IMPACTS, vectors.dtype, (total,)) if total else np.zeros(0, vectors.dtype)
        at = 0
        for shard in vectors.shards():
            lexicons[at : at + shard.nnz], impacts[at : at + shard.nnz] = shard.indices, shard.data
            at += shard.nnz
        for name, array in ((LEXICONS, lexicons), (IMPACTS, impacts)):
            array.flush() if total else np.save(folder / name, array)

    def open(self, folder):
        super().open(folder)
        self.forward = tuple(_frozen(load_mapped(Path(folder) / name)) for name in (FIRST, LEXICONS, IMPACTS))
        first_N1, lexicons, impacts = self.forward
        if len(first_N1) != self.count + 1 or not int(first_N1[-1]) == len(lexicons) == len(impacts):
            raise InputError(f"{folder}: the forward store does not match the index; build the index again (--force)")
        return self

    def search(self, queries, k, threads=1, *, query_lexicons: int = 8, candidates: int = 300, **knobs):
        """queries: CSR array (Q, V) of unsigned integers."""
        self.check_queries(queries, self.dimension)
        ids, scores = ranking.empty(queries.shape[0], k)
        if not (self.count and k and queries.nnz):
            return ids, scores
        if min(query_lexicons, candidates) < 1:
            raise InputError(f"{self.name}: query_lexicons and candidates: expected at least 1")
        kernels, rows = _kernels(), _read_only(queries)
        kept = np.zeros_like(rows[0]), np.empty_like(rows[1]), np.empty_like(rows[2])
        kernels.cut(*rows, query_lexicons, *kept)
        keys = self._best([_frozen(part) for part in kept], min(max(k, candidates), self.count), threads)
        rescore = functools.partial(self._rescore, rows, keys)
        total = queries.shape[0]
        self._share(_cut(total, threads if total >= threads else 1), rescore, threads)
        _impact_kernels().unpack(np.ascontiguousarray(keys[:, :k]), self.id_bits, ids, scores)
        return ids, scores

    def _rescore(self, rows, keys: np.ndarray, slices) -> None:
        """Replaces the scores of slices of the queries by exact ones."""
        dense_V = np.zeros(self.dimension, np.uint64)
        for slice_ in slices:
            _kernels().rescore(*rows, *self.forward, self.id_bits, dense_V, slice_, keys)


def _kernels():
    from bench.engines.lexicon import two_step_kernels

    return two_step_kernels


def _impact_kernels():
    from bench.engines.lexicon import impact_kernels

    return impact_kernels
