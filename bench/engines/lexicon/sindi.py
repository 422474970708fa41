"""SINDI: inverted lists in windows of documents, scored term by term with vector instructions (VSAG's index of sparse vectors).

Source: Li et al., "SINDI: An Efficient Index for Approximate Maximum Inner Product Search on Sparse Vectors", arXiv 2509.08395. Weights are
float32, or quantised by the library to 8 bits and rescored from the float32 vectors that it then keeps too. It takes all vectors as one
CSR array, so building holds them twice.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.engines import Engine, ranking
from models.errors import InputError, absent
from models.files import read_json, write_json

FILE = "index.sindi"
WINDOW = 50_000


class Sindi(Engine):
    """quantised: 8-bit weights in the lists, rescored; without, scores are those of float32 weights, summed in float32.

    Search knobs: `candidates`, rescored; `query_prune_ratio`, share of a query's weakest lexicons that are left out.
    """

    name, kind, exact, weights = "sindi", "lexicon", False, (None, 8, 16)

    def build(self, vectors, folder, threads=1, *, quantised: bool = False, **knobs):
        """One thread, whatever `threads` says: the library has no other for this index."""
        folder, shards = Path(folder), list(vectors.shards())
        rows = sp.vstack(shards, format="csr") if shards else sp.csr_array((0, vectors.dimension), dtype=np.float32)
        held = np.flatnonzero(np.diff(rows.indptr))  # it refuses items without lexicons
        about = {"held": len(held), "parameters": _parameters(vectors.dimension, quantised)}
        if len(held):
            rows, index = rows[held], _new(about)
            index.build(
                rows.indptr.astype(np.uint32),
                rows.indices.astype(np.uint32),
                rows.data.astype(np.float32),
                held.astype(np.int64),
            )
            index.save(str(folder / FILE))
        write_json(folder / "sindi.json", about | {"bytes": (folder / FILE).stat().st_size if len(held) else 0})

    def open(self, folder):
        path, about = Path(folder) / FILE, read_json(Path(folder) / "sindi.json")
        self.held = about["held"]
        if self.held:
            if not path.exists() or path.stat().st_size != about["bytes"]:
                raise InputError(f"{path}: not a whole SINDI index; expected {about['bytes']} bytes")
            self.index = _new(about)
            self.index.load(str(path))
            self._first_search()
        return self

    def _first_search(self) -> None:
        """The binding's first search imports NumPy's interface under a lock while it lets go of Python's: two threads at it wait for ever."""
        one = np.array([0, 1], np.uint32), np.zeros(1, np.uint32), np.ones(1, np.float32)
        self.index.knn_search(
            *one, 1, json.dumps({"sindi": {"n_candidate": 1, "query_prune_ratio": 0.0, "term_prune_ratio": 0.0}})
        )

    def prepare(self, queries, **knobs):
        """Of each query the CSR arrays of one row, in the library's types."""
        bounds, indices, data = (
            queries.indptr.tolist(),
            queries.indices.astype(np.uint32),
            queries.data.astype(np.float32),
        )
        pairs = zip(bounds[:-1], bounds[1:], strict=True)
        return [
            (np.array([0, stop - start], np.uint32), indices[start:stop], data[start:stop]) for start, stop in pairs
        ]

    def search(self, queries, k, threads=1, *, candidates: int = 100, query_prune_ratio: float = 0.0, **knobs):
        """The library answers one query at a time; a batch is shared out among `threads` here."""
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.held)
        if not found:
            return ids, scores
        knobs = {"n_candidate": max(candidates, found), "query_prune_ratio": query_prune_ratio, "term_prune_ratio": 0.0}
        parameters = json.dumps({"sindi": knobs})

        def answer(numbers) -> None:
            for number in numbers:
                if len(queries[number][1]):
                    labels, distances = (
                        np.ravel(part) for part in self.index.knn_search(*queries[number], found, parameters)
                    )
                    best = 1 - distances
                    real = (labels >= 0) & (best > 0)
                    ids[number, : real.sum()], scores[number, : real.sum()] = labels[real], best[real]

        if threads == 1 or len(queries) == 1:
            answer(range(len(queries)))
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(answer, (range(part, len(queries), threads) for part in range(threads))))
        return ranking.sort_rows(ids, scores)


def _parameters(dimension: int, quantised: bool) -> dict:
    index = {
        "term_id_limit": dimension,
        "window_size": WINDOW,
        "doc_prune_ratio": 0.0,
        "use_quantization": quantised,
        "use_reorder": quantised,
    }
    return {"dtype": "sparse", "metric_type": "ip", "dim": 128, "index_param": index}


def _new(about: dict):
    try:
        import pyvsag
    except ImportError:
        raise absent("pyvsag", "engines") from None
    pyvsag.set_logger_off()
    return pyvsag.Index("sindi", json.dumps(about["parameters"]))
