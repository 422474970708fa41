"""Relevance of gallery items to queries, and per-query results. An item is relevant if it is of the query's image."""

import functools
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from bench.vectors.read import Vectors


class Relevance:
    """The qrels of `queries` over `gallery`, both with the image (`groups`) that each item belongs to."""

    def __init__(self, gallery: Vectors, queries: Vectors):
        self.gallery, self.queries = gallery, queries

    @functools.cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image codes of the items (N,) and queries (Q,), and the number of relevant items of each query (Q,)."""
        codes = {group: code for code, group in enumerate(dict.fromkeys(self.gallery.groups))}
        items = np.array([codes[group] for group in self.gallery.groups], np.int64)
        queries = np.array([codes.get(group, -1) for group in self.queries.groups], np.int64)
        return items, queries, np.where(queries >= 0, np.bincount(items, minlength=len(codes))[queries], 0)

    def ranks(self, ids: np.ndarray, which=slice(None)) -> tuple[list[np.ndarray], np.ndarray]:
        """1-based ranks of the relevant items among the retrieved ids, and the number of relevant items (Q,).

        ids: (Q, k) row numbers of the gallery, padded with -1. which: the queries that the rows of `ids` belong to.
        """
        items, queries, relevant = self._codes
        hits = (ids >= 0) & (items[ids] == queries[which][:, None])
        rows, columns = np.nonzero(hits)
        ranks = np.split((columns + 1).astype(np.int32), np.cumsum(np.bincount(rows, minlength=len(ids)))[:-1])
        return ranks, relevant[which]

    def sidecar(self, which: Sequence[int], ranks, latency_us: np.ndarray | None = None) -> list[dict]:
        """Per-query results of the queries `which`, for the record store. latency_us: (len(which),) or None."""
        return query_rows(self.queries, which, ranks, self._codes[2][np.asarray(which, np.int64)], latency_us)


def query_rows(queries, which: Iterable[int], ranks, relevant, latency_us: np.ndarray | None = None) -> list[dict]:
    """Per-query results, as `RecordStore.write` takes them.

    queries: whatever has `ids` and `groups`. which: row numbers in it; ranks, relevant, latency_us: one entry for
    each.
    """
    latencies = itertools.repeat(None) if latency_us is None else latency_us.tolist()
    names = ("query_id", "group", "ranks", "relevant", "latency_us")
    return [
        dict(zip(names, (queries.ids[q], queries.groups[q], of_query, int(count), latency), strict=True))
        for q, of_query, count, latency in zip(which, ranks, relevant, latencies, strict=False)
    ]
