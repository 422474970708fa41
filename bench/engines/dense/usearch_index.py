"""USearch: an HNSW graph over vectors stored as float32, bfloat16 or int8, to which the library converts them.

A graph built on one thread is always the same; on several, it depends on the order in which threads insert.
"""

from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import NO_RESULT, Engine
from models.errors import InputError, require

FILE = "index.usearch"


class Usearch(Engine):
    """Approximate. Scores are inner products of the stored vectors.

    dtype: "f32", "bf16" or "i8". m: neighbours per node (twice that at the bottom). ef_construction: candidates kept
    while inserting. Search knob `ef`: candidates kept while searching, at least the number of results.
    """

    name, kind, exact = "usearch", "dense", False

    def build(
        self, vectors, folder, threads=1, *, dtype: str = "f32", m: int = 16, ef_construction: int = 200, **knobs
    ):
        index = require("usearch.index", "engines").Index(
            ndim=vectors.dimension,
            metric="ip",
            dtype=dtype,
            connectivity=m,
            expansion_add=ef_construction,
            enable_key_lookups=False,
        )
        first = 0
        for shard in vectors.shards():
            index.add(np.arange(first, first + len(shard)), shard, threads=threads)
            first += len(shard)
        index.save(Path(folder) / FILE)

    def open(self, folder):
        path = Path(folder) / FILE
        try:
            self.index = require("usearch.index", "engines").Index.restore(path, enable_key_lookups=False)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: incomplete USearch index ({error})") from None
        if self.index is None:
            raise InputError(f"{path}: missing")
        return self

    def search(self, queries, k, threads=1, *, ef: int = 64, **knobs):
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, len(self.index))
        if found and len(queries):
            self.index.expansion_search = ef
            matches = self.index.search(queries, found, threads=threads)
            keys, distances = np.atleast_2d(matches.keys, matches.distances)
            labels, width = keys.astype(np.int64), keys.shape[1]
            if len(queries) > 1:  # one query returns its results only; a batch returns full rows and their counts
                labels[np.arange(width) >= matches.counts[:, None]] = NO_RESULT
            ids[:, :width], scores[:, :width] = ranking.sort_rows(labels, 1 - distances)
        return ids, scores
