"""Exact brute force over lexicon vectors by scipy's sparse product, in chunks of queries: the lexicon baseline."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.engines import ranking
from bench.engines.contract import Engine
from bench.vectors.read import load_mapped

CELLS = 1 << 24  # scores in memory at a time; 64 MB in float32


class ScipyProduct(Engine):
    """Exact, one thread, no knobs. The index is the transposed CSR array (V, N).

    float32 weights are summed in float32 in the order of the query's lexicons, integer impacts in int64.
    """

    name, kind, exact, weights = "scipy", "lexicon", True, (None, 8, 16)

    def build(self, vectors, folder, threads=1, **knobs):
        shards = list(vectors.shards())
        rows = sp.vstack(shards, format="csr") if shards else sp.csr_array((0, vectors.dimension), dtype=np.float32)
        by_lexicon = rows.T.tocsr()  # (V, N)
        shape = np.array(by_lexicon.shape)
        parts = {"indptr": by_lexicon.indptr, "indices": by_lexicon.indices, "data": by_lexicon.data, "shape": shape}
        for part, values in parts.items():
            np.save(Path(folder) / f"{part}.npy", values, allow_pickle=False)

    def open(self, folder):
        parts = {part: load_mapped(Path(folder) / f"{part}.npy") for part in ("indptr", "indices", "data", "shape")}
        self.by_lexicon = sp.csr_array(
            (parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"]), copy=False
        )
        if self.by_lexicon.dtype.kind == "u":
            self.by_lexicon = self.by_lexicon.astype(np.int64)
        return self

    def search(self, queries, k, threads=1, **knobs):
        chunk = max(1, CELLS // max(1, self.by_lexicon.shape[1]))
        found = [ranking.empty(0, k)]
        for start in range(0, queries.shape[0], chunk):
            rows = queries[start : start + chunk]
            rows = rows.astype(np.int64) if rows.dtype.kind == "u" else rows
            found.append(ranking.top_k((rows @ self.by_lexicon).toarray(), k, positive=True))
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))
