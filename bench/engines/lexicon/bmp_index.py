"""BMP: blocks of documents are visited in descending order of their upper bound, until no block can change the result.

Source: Mallia, Suel and Tonellotto, "Faster Learned Sparse Retrieval with Block-Max Pruning", SIGIR 2024. Impacts are
bytes; documents are added one by one as Python dicts of lexicon names.

Traps of the library (0.2.8), each with a test
- It scales the weights of a query so that the largest is 32, and rounds them up: scores are in the library's own units.
  This alone makes the top k inexact at alpha = beta = 1, where nothing is pruned: the block maxima are exact, and over
  queries rounded that way so are the results.
- It stops one block too early, even with fewer than k results: a collection of one block returns nothing.
- It panics on a query that shares no lexicon with any document, so lexicons that no document has are removed from
  queries. It also panics on some queries of one lexicon where scores tie: InputError.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine
from bench.vectors.read import load_mapped
from models.errors import InputError, require
from models.files import read_json, write_json

NAME, KNOWN = "index.bmp", "lexicons.npy"


class Bmp(Engine):
    """Approximate; 8-bit impacts only; builds and searches on one thread. Scores are in the library's own units.

    block: documents per block. Search knobs: `alpha`, below 1: blocks whose upper bound barely exceeds the k-th best
    score are skipped; `beta`: share of the query's lexicons used, strongest first.
    """

    name, kind, exact, weights = "bmp", "lexicon", False, (8,)

    def build(self, vectors, folder, threads=1, *, block: int = 32, **knobs):
        self.check_impacts(vectors)
        bmp, held = require("bmp", "engines"), np.zeros(vectors.dimension, bool)
        names = [str(lexicon) for lexicon in range(vectors.dimension)]
        indexer, count = bmp.Indexer(str(Path(folder) / NAME), bsize=block, compress_range=False), 0
        for shard in vectors.shards():
            held[shard.indices] = True
            lexicons, weights = shard.indices.tolist(), shard.data.tolist()
            bounds = shard.indptr.tolist()
            for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
                indexer.add_document(str(count), {names[lexicons[i]]: weights[i] for i in range(start, stop)})
                count += 1
        if held.any():
            indexer.finish()
        np.save(Path(folder) / KNOWN, held)
        write_json(Path(folder) / "bmp.json", {"documents": count})

    def open(self, folder):
        folder = Path(folder)
        self.count = read_json(folder / "bmp.json")["documents"]
        self.held = load_mapped(folder / KNOWN)
        if self.held.any():
            bmp = require("bmp", "engines")
            with _without_panic(f"{folder / NAME}: incomplete BMP index"):
                self.searcher = bmp.Searcher(str(folder / NAME))
        return self

    def prepare(self, queries, **knobs):
        """For each query a dict of lexicon name to weight."""
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        return [self._weights(queries.indices[start:stop], queries.data[start:stop]) for start, stop in bounds]

    def _weights(self, lexicons, weights) -> dict[str, float]:
        known = self.held[lexicons]
        return dict(zip(map(str, lexicons[known].tolist()), weights[known].tolist(), strict=True))

    def search(self, queries, k, threads=1, *, alpha: float = 1.0, beta: float = 1.0, **knobs):
        ids, scores = ranking.empty(len(queries), k)
        for row, weights in enumerate(queries):
            if weights and k:
                with _without_panic(f"bmp: the library failed on a query of {len(weights)} lexicons, k={k}"):
                    names, found = self.searcher.search(weights, k=k, alpha=alpha, beta=beta)
                size = sum(score > 0 for score in found)
                ids[row, :size], scores[row, :size] = [int(name) for name in names[:size]], found[:size]
        return ranking.sort_rows(ids, scores)


@contextlib.contextmanager
def _without_panic(failed: str) -> Iterator[None]:
    """Turns a panic of Rust, which is not an Exception, into InputError. failed: the start of its message."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        said = (str(error).splitlines() or ["no message"])[0][:200]
        raise InputError(f"{failed} ({said})") from None
