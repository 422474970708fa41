"""BMP: blocks of documents are visited in the order of what they could score at most, until no block could change the result.

Source: Mallia, Suel and Tonellotto, "Faster Learned Sparse Retrieval with Block-Max Pruning", SIGIR 2024. Impacts are bytes, documents enter
one by one as Python dicts of lexicon names.

Three facts of the library (0.2.8), each held by a test. It scales the weights of a query so that the largest is 32, and rounds them up. It stops
a block too early, even when it has fewer than k results: a collection of one block gives none. So the top k is not exact at alpha = beta = 1
either, where nothing is to be pruned, and scores are in units of its own. And a query without a lexicon that some document has makes it
panic: lexicons of no document are left out.
"""

from pathlib import Path

import numpy as np

from bench.engines import Engine, ranking
from bench.vectors.read import load_mapped
from models.errors import InputError, absent
from models.files import read_json, write_json

NAME, KNOWN = "index.bmp", "lexicons.npy"


class Bmp(Engine):
    """block: documents of a block. Search knobs: `alpha`, below 1: blocks are given up that could just reach the k-th best score; `beta`: share of
    the query's lexicons used, strongest first. Scores are what the library returns."""

    name, kind, exact, weights = "bmp", "lexicon", False, (8,)

    def build(self, vectors, folder, threads=1, *, block: int = 32, **knobs):
        """One thread: the library has no other."""
        if vectors.dtype != np.uint8:
            raise InputError(f"bmp: weights are {vectors.dtype}; quantise them to 8 bits")
        bmp, held = _bmp(), np.zeros(vectors.dimension, bool)
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
            try:
                self.searcher = _bmp().Searcher(str(folder / NAME))
            except BaseException as error:  # a panic of Rust is no Exception
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                raise InputError(
                    f"{folder / NAME}: not a whole BMP index ({str(error).splitlines()[0][:200]})"
                ) from None
        return self

    def prepare(self, queries, **knobs):
        """For each query the weights of its lexicons by name."""
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        return [self._weights(queries.indices[start:stop], queries.data[start:stop]) for start, stop in bounds]

    def _weights(self, lexicons, weights) -> dict[str, float]:
        known = self.held[lexicons]
        return dict(zip(map(str, lexicons[known].tolist()), weights[known].tolist(), strict=True))

    def search(self, queries, k, threads=1, *, alpha: float = 1.0, beta: float = 1.0, **knobs):
        """One query after the other, on one thread: the library offers no other way in memory."""
        ids, scores = ranking.empty(len(queries), k)
        for row, weights in enumerate(queries):
            if weights and k:
                names, found = self.searcher.search(weights, k=k, alpha=alpha, beta=beta)
                size = sum(score > 0 for score in found)
                ids[row, :size], scores[row, :size] = [int(name) for name in names[:size]], found[:size]
        return ranking.sort_rows(ids, scores)


def _bmp():
    try:
        import bmp
    except ImportError:
        raise absent("bmp", "engines") from None
    return bmp
