"""Returns without searching: its QPS is the upper bound that the benchmark itself imposes on any engine."""

from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine


class Dummy(Engine):
    """Answers every query with items 0 to k - 1 and scores of 0. No structure, no knobs, not exact."""

    name, kind, exact, weights = "dummy", "any", False, (None, 8, 16)

    def build(self, vectors, folder, threads=1, **knobs):
        np.save(Path(folder) / "count.npy", np.array(vectors.count))

    def open(self, folder):
        self.count = int(np.load(Path(folder) / "count.npy"))
        return self

    def search(self, queries, k, threads=1, **knobs):
        ids, scores = ranking.empty(queries.shape[0], k)
        found = min(k, self.count)
        ids[:, :found], scores[:, :found] = np.arange(found), 0.0
        return ids, scores
