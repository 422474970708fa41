"""SINDI: posting lists in windows of documents, scored term at a time with SIMD (VSAG's sparse index).

Source: Li et al., "SINDI: An Efficient Index for Approximate Maximum Inner Product Search on Sparse Vectors", arXiv
2509.08395. Weights are float32, or quantised by the library to 8 bits and rescored from the float32 vectors, which it
then stores too. It takes all vectors as one CSR array, so building holds them in memory twice.
"""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.engines import ranking
from bench.engines.contract import NO_RESULT, Engine
from models.errors import InputError, require
from models.files import read_json, write_json

FILE = "index.sindi"
WINDOW = 50_000
LARGEST_ID = np.iinfo(np.int32).max


class Sindi(Engine):
    """Exact in float32 but not declared exact, because its 8-bit form is not. Scores are sums of float32 products.

    quantised: 8-bit weights in the lists, rescored in float32. Search knobs: `candidates`, number of items rescored;
    `query_prune_ratio`, share of a query's weakest lexicons that is left out. The library builds on one thread,
    whatever `threads` is.
    """

    name, kind, exact, weights = "sindi", "lexicon", False, (None, 8, 16)

    def build(self, vectors, folder, threads=1, *, quantised: bool = False, **knobs):
        folder, shards = Path(folder), list(vectors.shards())
        rows = sp.vstack(shards, format="csr") if shards else sp.csr_array((0, vectors.dimension), dtype=np.float32)
        held = np.flatnonzero(np.diff(rows.indptr))  # the library refuses items without lexicons
        about = {"held": len(held), "parameters": _parameters(vectors.dimension, quantised)}
        if len(held):
            rows, index = rows[held], _new(about)
            of_rows = rows.indptr.astype(np.uint32), rows.indices.astype(np.uint32), rows.data.astype(np.float32)
            index.build(*of_rows, held.astype(np.int64))
            index.save(str(folder / FILE))
        write_json(folder / "sindi.json", about | {"bytes": (folder / FILE).stat().st_size if len(held) else 0})

    def open(self, folder):
        path, about = Path(folder) / FILE, read_json(Path(folder) / "sindi.json")
        self.held = about["held"]
        if self.held:
            if not path.exists() or path.stat().st_size != about["bytes"]:
                raise InputError(f"{path}: incomplete SINDI index; expected {about['bytes']} bytes")
            self.index = _new(about)
            self.index.load(str(path))
            self._first_search()
        return self

    def _first_search(self) -> None:
        """Avoids a deadlock: the binding's first search imports NumPy's C API under its own lock, without the GIL."""
        one = np.array([0, 1], np.uint32), np.zeros(1, np.uint32), np.ones(1, np.float32)
        self.index.knn_search(*one, 1, _search_parameters(1, 0.0))

    def prepare(self, queries, **knobs):
        """For each query the CSR arrays of one row: indptr and lexicons uint32, weights float32."""
        bounds = itertools.pairwise(queries.indptr.tolist())
        lexicons, weights = queries.indices.astype(np.uint32), queries.data.astype(np.float32)
        return [(np.array([0, stop - at], np.uint32), lexicons[at:stop], weights[at:stop]) for at, stop in bounds]

    def search(self, queries, k, threads=1, *, candidates: int = 100, query_prune_ratio: float = 0.0, **knobs):
        """The library answers one query at a time; a batch is divided among `threads` here."""
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.held)
        if not found:
            return ids, scores
        parameters = _search_parameters(max(candidates, found), query_prune_ratio)

        def answer(numbers) -> None:
            for number in numbers:
                if len(queries[number][1]):
                    labels, distances = self._top(queries[number], found, parameters)
                    ids[number, : len(labels)], scores[number, : len(labels)] = labels, 1 - distances

        if threads == 1 or len(queries) == 1:
            answer(range(len(queries)))
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(answer, (range(part, len(queries), threads) for part in range(threads))))
        return ranking.sort_rows(ids, scores)

    def _top(self, query, k: int, parameters: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids and distances (1 - score, ascending) of the items that share a lexicon with the query, at most k.

        Where fewer do, the library leaves the rest of its arrays uninitialised and does not say from where. So freed
        arrays of their size are filled with padding first, and results end at the first impossible value.
        """
        np.full(k, NO_RESULT, np.int64), np.full(k, np.inf, np.float32)
        labels, distances = map(np.ravel, self.index.knn_search(*query, k, parameters))
        possible = (labels >= 0) & (labels <= LARGEST_ID) & (distances < 1)
        possible[1:] &= distances[1:] >= distances[:-1]
        size = len(possible) if possible.all() else int(possible.argmin())
        while len(set(labels[:size].tolist())) < size:  # repeated ids
            size -= 1
        return labels[:size], distances[:size]


def _parameters(dimension: int, quantised: bool) -> dict:
    index = {
        "term_id_limit": dimension,
        "window_size": WINDOW,
        "doc_prune_ratio": 0.0,
        "use_quantization": quantised,
        "use_reorder": quantised,
    }
    return {"dtype": "sparse", "metric_type": "ip", "dim": 128, "index_param": index}


def _search_parameters(candidates: int, query_prune_ratio: float) -> str:
    knobs = {"n_candidate": candidates, "query_prune_ratio": query_prune_ratio, "term_prune_ratio": 0.0}
    return json.dumps({"sindi": knobs})


def _new(about: dict):
    pyvsag = require("pyvsag", "engines")
    pyvsag.set_logger_off()
    return pyvsag.Index("sindi", json.dumps(about["parameters"]))
