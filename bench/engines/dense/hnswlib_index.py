"""hnswlib: the HNSW graph by the authors of the paper, over float32 vectors.

Source: Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
Small World Graphs", TPAMI 2020. The package comes as source only: pip needs a C++ compiler, which compiles it for this
machine's CPU. A graph built on one thread is always the same; on several, it depends on the order in which threads
insert.
"""

from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine
from models.errors import InputError, require
from models.files import read_json, write_json

SEED = 100
TOO_FEW = "Cannot return the results in a contiguous 2D array"
"""Start of the library's message where a query has fewer than k results."""


class Hnswlib(Engine):
    """Approximate. Scores are inner products of the float32 vectors, to the rounding of 1 - (1 - score).

    m: neighbours per node (twice that at the bottom). ef_construction: candidates kept while inserting. Search knob
    `ef`: candidates kept while searching, at least the number of results.
    """

    name, kind, exact = "hnswlib", "dense", False

    def build(self, vectors, folder, threads=1, *, m: int = 16, ef_construction: int = 200, **knobs):
        index = require("hnswlib", "hnswlib").Index("ip", vectors.dimension)
        index.init_index(vectors.count, M=m, ef_construction=ef_construction, random_seed=SEED)
        for shard in vectors.shards():
            if len(shard):
                index.add_items(shard, num_threads=threads)
        index.save_index(str(Path(folder) / "hnsw.bin"))
        write_json(Path(folder) / "hnswlib.json", {"dimension": vectors.dimension})

    def open(self, folder):
        path = Path(folder) / "hnsw.bin"
        self.index = require("hnswlib", "hnswlib").Index("ip", read_json(Path(folder) / "hnswlib.json")["dimension"])
        try:
            self.index.load_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: incomplete hnswlib index ({error})") from None
        return self

    def search(self, queries, k, threads=1, *, ef: int = 64, **knobs):
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.index.element_count)
        if found and len(queries):
            self.index.set_ef(max(ef, found))
            self._fill(ids[:, :found], scores[:, :found], queries, threads)
        return ids, scores

    def _fill(self, ids, scores, queries, threads: int) -> None:
        """Writes the results into padded ids and scores (Q, k).

        Trap: the library raises if it finds fewer than k items for one of the queries, as where a part of the graph is
        not connected. Then halves of the queries are searched, and a single query for as many items as it finds.
        """
        try:
            labels, distances = self.index.knn_query(queries, ids.shape[1], num_threads=threads)
        except RuntimeError as error:
            if TOO_FEW not in str(error):
                raise
            half = len(queries) // 2
            for part in (slice(half), slice(half, None)) if half else ():
                self._fill(ids[part], scores[part], queries[part], threads)
            if not half:
                self._fill_one(ids, scores, queries)
        else:
            ids[:], scores[:] = ranking.sort_rows(labels.astype(np.int64), 1 - distances)

    def _fill_one(self, ids, scores, query) -> None:
        """The most results that one query has, by bisection."""
        low, high, best = 0, ids.shape[1], None  # `low` are found, `high` are not
        while high - low > 1:
            middle = (low + high) // 2
            try:
                best, low = self.index.knn_query(query, middle, num_threads=1), middle
            except RuntimeError as error:
                if TOO_FEW not in str(error):
                    raise
                high = middle
        if best is not None:
            labels, distances = best
            ids[:, :low], scores[:, :low] = ranking.sort_rows(labels.astype(np.int64), 1 - distances)
