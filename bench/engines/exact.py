"""Exact search by brute force, over vectors of any size, and how much of it an engine finds: the second opinion on every engine.

An engine's recall is taken over scores, as ann-benchmarks does, not over ids: of items that tie at the k-th place each is as right as
another.
"""

import numpy as np
import scipy.sparse as sp

from bench.engines import ranking

RELATIVE_ERROR = 1e-5
"""By which a float32 score may miss the k-th best one and still count: the order of additions moves it by less."""


def best_scores(documents, queries, k: int) -> np.ndarray:
    """The k best exact scores of each query, (Q, k) float64 descending, padded with -inf. One shard of documents is in memory at a time.

    documents: DenseVectors, LexiconVectors or Impacts. queries: (Q, D) array or CSR (Q, V). Lexicon scores of 0 are no result.
    """
    lexicon = sp.issparse(queries)
    best = np.full((queries.shape[0], k), -np.inf)
    for shard in documents.shards():
        scores = _products(queries, shard)
        ids, _ = ranking.top_k(
            scores, min(k, scores.shape[1]), positive=lexicon
        )  # whose own scores are float32, too few bits for integers
        found = np.where(ids < 0, -np.inf, np.take_along_axis(scores, ids, axis=1).astype(np.float64))
        best = -np.sort(-np.concatenate([best, found], axis=1), axis=1)[:, :k]
    return best


def true_scores(documents, queries, ids: np.ndarray) -> np.ndarray:
    """The exact score of each returned id (Q, k), -inf at the padding."""
    scores = np.full(ids.shape, -np.inf)
    for query, row in enumerate(ids):
        for place, item in enumerate(row):
            if item >= 0:
                scores[query, place] = _products(queries[query : query + 1], documents.rows(int(item), int(item) + 1))[
                    0, 0
                ]
    return scores


def recall(found: np.ndarray, best: np.ndarray, k: int) -> float:
    """Mean over queries of the share of the exact top k that was found: true scores (Q, >= k) that reach the k-th best one (Q, >= k).

    Queries without any exact result are left out; 1.0 when all are.
    """
    shares = []
    for got, want in zip(found[:, :k], best[:, :k], strict=True):
        want = want[np.isfinite(want)]
        if want.size:
            floor = want[-1] - RELATIVE_ERROR * max(1.0, abs(want[-1])) if want[-1] % 1 else want[-1]
            shares.append(min(int((got >= floor).sum()), want.size) / want.size)
    return float(np.mean(shares)) if shares else 1.0


def _products(queries, rows) -> np.ndarray:
    """(Q, N) exact scores: integers do not wrap, floats are multiplied as float32."""
    if sp.issparse(queries):
        wide = np.int64 if queries.dtype.kind == "u" else np.float32
        return (queries.astype(wide) @ sp.csr_array(rows).astype(wide).T).toarray()
    return queries @ np.asarray(rows, np.float32).T
