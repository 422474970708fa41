"""kANNolo: an HNSW graph over sparse vectors, by inner product.

Source: Delfino, Erriquez, Martinico, Nardini, Rulli and Venturini, "kANNolo: Sweet and Smooth Approximate k-Nearest
Neighbors Search", ECIR 2025. Of the library's stores, the plain one is used: documents in float16, queries in float32.
Its fixed-point stores would cut impacts at their own largest value.

What its Python interface (0.15) cannot do
- Integers: weights are floats. Impacts of 8 bits are exact in float16.
- Memory maps: an index is read into memory. All vectors are passed at once, so building holds them twice.
- Threads of a build: it uses all cores (`RAYON_NUM_THREADS`, read once per process), whatever `threads` is. With the
  same number, builds gave the same graph; with another number, another one.
- More than 65,536 lexicons: their numbers are uint16.
- Errors: it aborts the process, without an exception, on an index of one vector, on a query with a lexicon beyond the
  last one of the documents, and on m below 2. So `build` adds two items: the last lexicon with weight 0. Their score is
  0, which is no result.
"""

from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine
from models.errors import InputError, require
from models.files import read_json, write_json

FILE = "index.kannolo"
LEXICONS_MOST = 2**16
ADDED = 2


class Kannolo(Engine):
    """Approximate. Scores are inner products with document weights in float16.

    m: neighbours per node (twice that at the bottom), at least 2. ef_construction: candidates kept while inserting.
    Search knob `ef`: candidates kept while searching, at least the number of results.
    """

    name, kind, exact, weights = "kannolo", "lexicon", False, (None, 8)

    def build(self, vectors, folder, threads=1, *, m: int = 32, ef_construction: int = 200, **knobs):
        if vectors.dimension > LEXICONS_MOST:
            raise InputError(f"{self.name}: {vectors.dimension} lexicons; expected at most {LEXICONS_MOST}")
        if m < 2:
            raise InputError(f"{self.name}: m {m}: expected at least 2")
        index = _library().build_from_arrays(*_arrays(vectors), m=m, ef_construction=ef_construction)
        index.save(str(Path(folder) / FILE))
        write_json(Path(folder) / "kannolo.json", {"documents": vectors.count})

    def open(self, folder):
        path = Path(folder) / FILE
        self.count = read_json(Path(folder) / "kannolo.json")["documents"]
        try:
            self.index = _library().load(str(path))
        except OSError as error:
            raise InputError(f"{path}: incomplete kANNolo index ({str(error).splitlines()[0][:200]})") from None
        return self

    def prepare(self, queries, **knobs):
        """For each query its lexicons, int32, and their weights, float32."""
        lexicons, weights = queries.indices.astype(np.int32), queries.data.astype(np.float32)
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        return [(lexicons[start:stop], weights[start:stop]) for start, stop in bounds]

    def search(self, queries, k, threads=1, *, ef: int = 64, **knobs):
        """One query is answered by one thread; a batch uses `threads`."""
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.count)
        if not (found and len(queries)):
            return ids, scores
        ef = max(ef, found)
        if len(queries) == 1:
            best, labels = (part[None] for part in self.index.search(*queries[0], found, ef_search=ef))
        else:
            lexicons, weights = map(np.concatenate, zip(*queries, strict=True))
            bounds = np.cumsum([0, *(len(of_query) for of_query, _ in queries)])
            best, labels = self.index.batch_search(lexicons, weights, bounds, found, ef_search=ef, num_threads=threads)
            best, labels = best.reshape(-1, found), labels.reshape(-1, found)
        width = labels.shape[1]
        ids[:, :width], scores[:, :width] = ranking.sort_rows(np.where(best > 0, labels, -1), best)
        return ids, scores


def _arrays(vectors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lexicons int32, weights float32 and bounds int64 of all vectors and of the added items."""
    shards, last = list(vectors.shards()), vectors.dimension - 1
    lexicons = [*(shard.indices for shard in shards), np.full(ADDED, last)]
    weights = [*(shard.data for shard in shards), np.zeros(ADDED)]
    sizes = [*(np.diff(shard.indptr) for shard in shards), np.ones(ADDED, np.int64)]
    bounds = np.concatenate([[0], *sizes]).cumsum()
    lexicons, weights = (
        np.concatenate(parts, dtype=dtype, casting="unsafe")
        for parts, dtype in ((lexicons, np.int32), (weights, np.float32))
    )
    return lexicons, weights, bounds.astype(np.int64)


def _library():
    return require("kannolo", "engines").SparsePlainHNSW
