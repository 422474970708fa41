"""The order of results that all engines share: score descending, then id ascending, padded with -1."""

import numpy as np

from bench.engines import NO_RESULT, NO_SCORE


def top_k(scores: np.ndarray, k: int, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """The top k of each row of a full score matrix, ties included exactly.

    scores: (Q, N). positive: drop scores <= 0 (lexicon engines). Returns ids (Q, k) int64 and scores (Q, k) float32.
    """
    ids, best = empty(len(scores), k)
    count = scores.shape[1]
    for row, of_row in enumerate(scores):
        if 0 < k < count:
            floor = np.partition(of_row, count - k)[count - k]
            candidates = (
                np.flatnonzero((of_row >= floor) & (of_row > 0)) if positive else np.flatnonzero(of_row >= floor)
            )
        else:
            candidates = np.flatnonzero(of_row > 0) if positive else np.arange(count)
        order = candidates[np.argsort(-of_row[candidates].astype(np.float64), kind="stable")][:k]
        ids[row, : len(order)], best[row, : len(order)] = order, of_row[order]
    return ids, best


def sort_rows(ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of an engine's own results in the promised order; ids below 0 become padding. Shapes (Q, k)."""
    scores = np.where(ids < 0, NO_SCORE, scores).astype(np.float32)
    ids = np.where(ids < 0, NO_RESULT, ids).astype(np.int64)
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores), axis=1)
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def empty(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Results without any hit."""
    return np.full((queries, k), NO_RESULT, np.int64), np.full((queries, k), NO_SCORE, np.float32)
