"""Exact scores by brute force, over vectors of any size, and the recall of an engine against them.

Recall is computed over scores, as ann-benchmarks does, not over ids: items that tie at the k-th place are equally
correct.
"""

import numpy as np
import scipy

from bench.engines import ranking

RELATIVE_ERROR = 1e-5
"""Tolerance of a float32 score, relative to the largest of its query: the order of additions changes it by less."""


def best_scores(documents, queries, k: int) -> np.ndarray:
    """The k best exact scores of each query, (Q, k) float64 descending, padded with -inf.

    documents: DenseVectors, LexiconVectors or Impacts, read shard by shard. queries: (Q, D) array or CSR array (Q, V).
    Lexicon scores of 0 are no result.
    """
    lexicon = scipy.sparse.issparse(queries)
    best = np.full((queries.shape[0], k), -np.inf)
    for shard in documents.shards():
        scores = _products(queries, shard)
        ids, _ = ranking.top_k(scores, min(k, scores.shape[1]), positive=lexicon)  # its float32 scores round integers
        found = np.where(ids < 0, -np.inf, np.take_along_axis(scores, ids, axis=1).astype(np.float64))
        best = -np.sort(-np.concatenate([best, found], axis=1), axis=1)[:, :k]
    return best


def true_scores(documents, queries, ids: np.ndarray) -> np.ndarray:
    """The exact score of each returned id: (Q, k) float64, -inf at the padding. ids: (Q, k)."""
    scores = np.full(ids.shape, -np.inf)
    for query, place in np.argwhere(ids >= 0):
        item = int(ids[query, place])
        scores[query, place] = _products(queries[query : query + 1], documents.rows(item, item + 1))[0, 0]
    return scores


def recall(found: np.ndarray, best: np.ndarray, k: int, whole: bool = False) -> float:
    """Mean share of the exact top k that an engine found: its k results whose score reaches the k-th best one.

    found: `true_scores` of its results, (Q, >= k). best: `best_scores`, (Q, >= k). whole: scores are products of
    integers, so they are compared without a tolerance. Queries without an exact result are left out; 1.0 if none
    remains.
    """
    shares = []
    for scores, exact in zip(found[:, :k], best[:, :k], strict=True):
        exact = exact[np.isfinite(exact)]
        if exact.size:
            floor = exact[-1] - (0 if whole else RELATIVE_ERROR * np.abs(exact).max())
            shares.append(min(int((scores >= floor).sum()), exact.size) / exact.size)
    return float(np.mean(shares)) if shares else 1.0


def _products(queries, rows) -> np.ndarray:
    """Scores (Q, N): unsigned integers as int64, which does not overflow, floats as float32."""
    if scipy.sparse.issparse(queries):
        wide = np.int64 if queries.dtype.kind == "u" else np.float32
        return (queries.astype(wide) @ scipy.sparse.csr_array(rows).astype(wide).T).toarray()
    return queries @ np.asarray(rows, np.float32).T
