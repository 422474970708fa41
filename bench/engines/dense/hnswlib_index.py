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
            labels, distances = self.index.knn_query(queries, found, num_threads=threads)
            ids[:, :found], scores[:, :found] = ranking.sort_rows(labels.astype(np.int64), 1 - distances)
        return ids, scores
