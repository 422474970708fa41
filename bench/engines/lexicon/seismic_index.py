"""Seismic: inverted lists cut to the strongest postings, clustered, and skipped by the summary of each cluster.

Source: Bruch, Nardini, Rulli and Venturini, "Efficient Inverted Indexes for Approximate Retrieval over Learned Sparse Representations",
SIGIR 2024. Weights are kept as float16. Hits come from the library as Python tuples with ids as text; converting them is part of a search.

The library holds the vectors, the lists and what it builds them from in memory at once.
"""

from pathlib import Path

import numpy as np

from bench.engines import Engine, ranking
from models.errors import InputError, absent
from models.files import read_json, write_json

NAME = "seismic"
SUFFIX = ".index.seismic"


class Seismic(Engine):
    """n_postings: postings kept for each lexicon, on average; summary_energy: share of a cluster's weight that its summary keeps.

    Search knobs: `query_cut`, the strongest lexicons of a query that choose clusters; `heap_factor`, below 1: how far a cluster's summary may
    fall short of the k-th best score before it is skipped. Scores are inner products over all lexicons, with documents in float16.
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
        **knobs,
    ):
        seismic, first, held = _seismic(), 0, 0
        dataset = seismic.SeismicDataset()
        for shard in vectors.shards():
            names = [str(item) for item in range(first, first + shard.shape[0])]
            parts = shard.indices.astype(np.int64), shard.data.astype(np.float32), shard.indptr.astype(np.int64)
            held += dataset.add_documents_by_id(names, *parts)
            first += shard.shape[0]
        if held:
            knobs = {"n_postings": n_postings, "centroid_fraction": centroid_fraction, "summary_energy": summary_energy}
            seismic.SeismicIndex.build_from_dataset(dataset, **knobs, num_threads=threads).save(
                str(Path(folder) / NAME)
            )
        write_json(Path(folder) / "seismic.json", {"held": held})

    def open(self, folder):
        path = Path(folder) / (NAME + SUFFIX)
        self.held = read_json(Path(folder) / "seismic.json")["held"]
        if self.held:
            try:
                self.index = _seismic().SeismicIndex.load(str(path))
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(f"{path}: not a whole Seismic index ({str(error).splitlines()[0][:200]})") from None
            if self.index.len != self.held:
                raise InputError(f"{path}: {self.index.len} documents, expected {self.held}")
        self.text = _seismic().get_seismic_string()
        return self

    def prepare(self, queries, **knobs):
        """For each query the names of its lexicons and their weights."""
        names = queries.indices.astype(self.text)
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        return [(names[start:stop], queries.data[start:stop].astype(np.float32)) for start, stop in bounds]

    def search(self, queries, k, threads=1, *, query_cut: int = 10, heap_factor: float = 0.9, **knobs):
        """One query is answered by one thread; a batch uses `threads`."""
        ids, scores = ranking.empty(len(queries), k)
        asked = [number for number, (names, _) in enumerate(queries) if len(names)]
        if not (k and self.held and asked):
            return ids, scores
        if len(asked) == 1:
            found = [self.index.search(str(asked[0]), *queries[asked[0]], k, query_cut, heap_factor)]
        else:
            names, weights = zip(*(queries[number] for number in asked), strict=True)
            numbers = np.array([str(number) for number in asked], self.text)
            found = self.index.batch_search(
                numbers, list(names), list(weights), k, query_cut, heap_factor, num_threads=threads
            )
        for hits in found:  # in whatever order the library's threads finished; each hit names its query
            hits = [(int(query), int(name), score) for query, score, name in hits if score > 0]
            if hits:
                row, size = hits[0][0], len(hits)
                ids[row, :size] = [item for _, item, _ in hits]
                scores[row, :size] = [score for *_, score in hits]
        return ranking.sort_rows(ids, scores)


def _seismic():
    try:
        import seismic
    except ImportError:
        raise absent("seismic", "engines") from None
    return seismic
