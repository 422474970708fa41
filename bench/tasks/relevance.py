"""Which items of a gallery are right for which query: those of the same image. From rankings to ranks."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from bench.vectors.read import Vectors


class Relevance:
    """Of `gallery` items to `queries`, both with the image (`groups`) that each belongs to."""

    def __init__(self, gallery: Vectors, queries: Vectors):
        self.gallery, self.queries = gallery, queries

    @functools.cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes of the images that items (N,) and queries (Q,) belong to, and the number of relevant items of each query (Q,)."""
        codes = {group: code for code, group in enumerate(dict.fromkeys(self.gallery.groups))}
        items = np.array([codes[group] for group in self.gallery.groups], np.int64)
        queries = np.array([codes.get(group, -1) for group in self.queries.groups], np.int64)
        return items, queries, np.where(queries >= 0, np.bincount(items, minlength=len(codes))[queries], 0)

    def ranks(self, ids: np.ndarray, which=slice(None)) -> tuple[list[np.ndarray], np.ndarray]:
        """1-based ranks of the relevant items among the retrieved ids (Q, k), and the number of relevant items (Q,)."""
        items, queries, relevant = self._codes
        hits = (ids >= 0) & (items[ids] == queries[which][:, None])
        rows, columns = np.nonzero(hits)
        ranks = np.split((columns + 1).astype(np.int32), np.cumsum(np.bincount(rows, minlength=len(ids)))[:-1])
        return ranks, relevant[which]

    def sidecar(self, which: Sequence[int], ranks, latency_us: np.ndarray | None = None) -> list[dict]:
        """Rows of a point's per-query results, for the queries `which`."""
        ids, groups, relevant = self.queries.ids, self.queries.groups, self._codes[2]
        latencies = itertools.repeat(None) if latency_us is None else latency_us.tolist()
        return [
            {
                "query_id": ids[q],
                "group": groups[q],
                "ranks": of_query,
                "relevant": int(relevant[q]),
                "latency_us": latency,
            }
            for q, of_query, latency in zip(which, ranks, latencies, strict=False)
        ]
