"""Seismic: posting lists cut to their strongest postings and clustered; clusters are skipped by a summary bound.

Source: Bruch, Nardini, Rulli and Venturini, "Efficient Inverted Indexes for Approximate Retrieval over Learned Sparse
Representations", SIGIR 2024. Weights are stored as float16. The library returns hits as Python tuples with ids as text;
converting them is part of the timed search. While building, memory holds the vectors, the lists and the library's
intermediate data at once.
"""

from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine
from models.errors import InputError, require
from models.files import read_json, write_json

NAME = "seismic"
SUFFIX = ".index.seismic"


class Seismic(Engine):
    """Approximate. Scores are inner products over all lexicons, with document weights in float16.

    n_postings: mean number of postings kept per lexicon. centroid_fraction: clusters of a list, as a share of its
    postings. summary_energy: share of a cluster's weight that its summary keeps. n_knn: neighbours of a document in a
    graph, all of which are scored beside the results of the lists; 0: no graph. Search knobs: `query_cut`, number of
    the strongest query lexicons that choose clusters; `heap_factor`, up to 1: a cluster whose bound times it is below
    the k-th best score is skipped.
    """

    name, kind, exact, weights = "seismic", "lexicon", False, (None, 8)

    def build(
        self,
        vectors,
        folder,
        threads=1,
        *,
        n_postings: int = 4000,
        centroid_fraction: float = 0.1,
        summary_energy: float = 0.4,
        n_knn: int = 0,
        **knobs,
    ):
        seismic, first, held = require("seismic", "engines"), 0, 0
        dataset = seismic.SeismicDataset()
        for shard in vectors.shards():
            names = [str(item) for item in range(first, first + shard.shape[0])]
            parts = shard.indices.astype(np.int64), shard.data.astype(np.float32), shard.indptr.astype(np.int64)
            held += dataset.add_documents_by_id(names, *parts)
            first += shard.shape[0]
        if held:
            knobs = {"n_postings": n_postings, "centroid_fraction": centroid_fraction, "summary_energy": summary_energy}
            index = seismic.SeismicIndex.build_from_dataset(dataset, **knobs, nknn=n_knn, num_threads=threads)
            index.save(str(Path(folder) / NAME))
        write_json(Path(folder) / "seismic.json", {"held": held})

    def open(self, folder):
        seismic, path = require("seismic", "engines"), Path(folder) / (NAME + SUFFIX)
        self.held = read_json(Path(folder) / "seismic.json")["held"]
        if self.held:
            try:
                self.index = seismic.SeismicIndex.load(str(path))
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(f"{path}: incomplete Seismic index ({str(error).splitlines()[0][:200]})") from None
            self.n_knn = self.index.knn_len
            if self.index.len != self.held:
                raise InputError(f"{path}: {self.index.len} documents, expected {self.held}")
        self.text = seismic.get_seismic_string()
        return self

    def prepare(self, queries, **knobs):
        """For each query the names of its lexicons and their float32 weights."""
        names = queries.indices.astype(self.text)
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        return [(names[start:stop], queries.data[start:stop].astype(np.float32)) for start, stop in bounds]

    def search(self, queries, k, threads=1, *, query_cut: int = 10, heap_factor: float = 0.9, **knobs):
        """One query is answered by one thread; a batch uses `threads`."""
        ids, scores = ranking.empty(len(queries), k)
        nonempty = [number for number, (names, _) in enumerate(queries) if len(names)]
        if not (k and self.held and nonempty):
            return ids, scores
        if len(nonempty) == 1:
            one = str(nonempty[0]), *queries[nonempty[0]]
            found = [self.index.search(*one, k, query_cut, heap_factor, self.n_knn)]
        else:
            names, weights = zip(*(queries[number] for number in nonempty), strict=True)
            numbers = np.array([str(number) for number in nonempty], self.text)
            found = self.index.batch_search(
                numbers, list(names), list(weights), k, query_cut, heap_factor, self.n_knn, num_threads=threads
            )
        for hits in found:  # in the order in which the library's threads finished; each hit names its query
            hits = [(int(query), int(name), score) for query, score, name in hits if score > 0]
            if hits:
                row, size = hits[0][0], len(hits)
                ids[row, :size] = [item for _, item, _ in hits]
                scores[row, :size] = [score for *_, score in hits]
        return ranking.sort_rows(ids, scores)
