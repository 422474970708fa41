"""Relevance of gallery items to queries, and per-query results.

An item is relevant if it is of the query's image. Qrels of the user can name several items instead, with grades. A
corpus can know more: whether a caption is true of an image that it was not written for.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import scipy

from bench.tasks import evaluation
from bench.vectors.read import Vectors

Qrels = Mapping[str, Mapping[str, float]]
"""Query id -> item id -> grade above 0."""


class Relevance:
    """The qrels of `queries` over `gallery`: those given, or those of the image (`groups`) of each item.

    is_true: (query id, item id) -> whether the item makes the query true; None if the corpus does not know.
    """

    def __init__(
        self,
        gallery: Vectors,
        queries: Vectors,
        qrels: Qrels | None = None,
        is_true: Callable[[str, str], bool] | None = None,
    ):
        self.gallery, self.queries, self.qrels, self.is_true = gallery, queries, qrels, is_true

    @functools.cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image codes of the items (N,) and queries (Q,), and the number of relevant items of each query (Q,)."""
        codes = {group: code for code, group in enumerate(dict.fromkeys(self.gallery.groups))}
        items = np.array([codes[group] for group in self.gallery.groups], np.int64)
        queries = np.array([codes.get(group, -1) for group in self.queries.groups], np.int64)
        return items, queries, np.where(queries >= 0, np.bincount(items, minlength=len(codes))[queries], 0)

    @functools.cached_property
    def _grades(self) -> "scipy.sparse.csr_array":
        """(Q, N) float64 grades of the given qrels; 0 for items that are not relevant."""
        row_of = {name: row for row, name in enumerate(self.gallery.ids)}
        found = [
            (grade, query, row_of[item])
            for query, name in enumerate(self.queries.ids)
            for item, grade in self.qrels.get(name, {}).items()
            if item in row_of
        ]
        grades, queries, items = np.array(found, np.float64).reshape(-1, 3).T
        parts = grades, (queries.astype(np.int64), items.astype(np.int64))
        return scipy.sparse.csr_array(parts, shape=(self.queries.count, self.gallery.count))

    @functools.cached_property
    def _relevant(self) -> np.ndarray:
        """(Q,) number of relevant items; by qrels, those that are not in the gallery count too, as in trec_eval."""
        if self.qrels is None:
            return self._codes[2]
        return np.array([len(self.qrels.get(name, ())) for name in self.queries.ids], np.int64)

    def _retrieved_grades(self, ids: np.ndarray, which) -> np.ndarray:
        """(Q, k) grades of retrieved items."""
        rows = np.arange(len(self.queries.ids))[which]
        flat = self._grades[np.repeat(rows, ids.shape[1]), np.maximum(ids, 0).ravel()]
        return np.where(ids >= 0, np.asarray(flat).reshape(ids.shape), 0)

    def ndcg(self, ids: np.ndarray, which=slice(None)) -> dict[str, float]:
        """{"ndcg@10": ...} by given qrels, empty without them or for fewer results. Arguments as `ranks`."""
        if self.qrels is None or ids.shape[1] < evaluation.NDCG_DEPTH:
            return {}
        names = np.array(self.queries.ids, object)[which]
        ideal = [sorted(self.qrels.get(name, {}).values(), reverse=True) for name in names]
        return {f"ndcg@{evaluation.NDCG_DEPTH}": evaluation.ndcg(self._retrieved_grades(ids, which), ideal)}

    def true_first(self, ids: np.ndarray, which=slice(None)) -> np.ndarray | None:
        """(Q,) bool: whether the first result makes the query true; None if unknown. Arguments as `ranks`."""
        if self.is_true is None:
            return None
        rows, first = np.arange(len(self.queries.ids))[which], ids[:, 0]
        names = ((self.queries.ids[row], self.gallery.ids[item]) for row, item in zip(rows, first, strict=True))
        return np.array([item >= 0 and self.is_true(*pair) for item, pair in zip(first, names, strict=True)], bool)

    def evaluate(self, ids: np.ndarray, which=slice(None)) -> tuple[dict[str, float], list[dict]]:
        """All metrics that these results permit, and their per-query results. Arguments as `ranks`."""
        ranks, relevant = self.ranks(ids, which)
        values = evaluation.evaluate(ranks, relevant, ids.shape[1]) | self.ndcg(ids, which)
        rows = self.sidecar(np.arange(len(self.queries.ids))[which], ranks)
        if (true := self.true_first(ids, which)) is not None:
            values["true@1"] = float(true.mean())
            rows = [row | {"true": bool(found)} for row, found in zip(rows, true, strict=True)]
        return values, rows

    def ranks(self, ids: np.ndarray, which=slice(None)) -> tuple[list[np.ndarray], np.ndarray]:
        """1-based ranks of the relevant items among the retrieved ids, and the number of relevant items (Q,).

        ids: (Q, k) row numbers of the gallery, padded with -1. which: the queries that the rows of `ids` belong to.
        """
        if self.qrels is None:
            items, queries, _ = self._codes
            hits = (ids >= 0) & (items[ids] == queries[which][:, None])
        else:
            hits = self._retrieved_grades(ids, which) > 0
        rows, columns = np.nonzero(hits)
        ranks = np.split((columns + 1).astype(np.int32), np.cumsum(np.bincount(rows, minlength=len(ids)))[:-1])
        return ranks, self._relevant[which]

    def sidecar(self, which: Sequence[int], ranks, latency_us: np.ndarray | None = None) -> list[dict]:
        """Per-query results of the queries `which`, for the record store. latency_us: (len(which),) or None."""
        return query_rows(self.queries, which, ranks, self._relevant[np.asarray(which, np.int64)], latency_us)


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
