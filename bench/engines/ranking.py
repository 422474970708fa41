"""The order of results of all engines: score descending, then id ascending, padded with -1."""

import numpy as np

from bench.engines.contract import NO_RESULT, NO_SCORE


def top_k(scores: np.ndarray, k: int, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """The top k of each row of a full score matrix, exact at ties.

    scores: (Q, N). positive: leaves out scores <= 0, as lexicon engines do. Returns ids (Q, k) int64 and scores (Q, k)
    float32.
    """
    ids, best = empty(len(scores), k)
    count = scores.shape[1]
    for row, of_row in enumerate(scores):
        if 0 < k < count:
            floor = np.partition(of_row, count - k)[count - k]
            eligible = of_row >= floor
        else:
            eligible = np.ones(count, bool)
        candidates = np.flatnonzero(eligible & (of_row > 0) if positive else eligible)
        order = candidates[np.argsort(-of_row[candidates].astype(np.float64), kind="stable")][:k]
        ids[row, : len(order)], best[row, : len(order)] = order, of_row[order]
    return ids, best


def sort_rows(ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts ids and scores (Q, k) of a library into the order of all engines. Ids below 0 become padding."""
    scores = np.where(ids < 0, NO_SCORE, scores).astype(np.float32)
    ids = np.where(ids < 0, NO_RESULT, ids).astype(np.int64)
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores), axis=1)
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def empty(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Padding only: ids (queries, k) of -1 and scores of -inf, to be filled."""
    return np.full((queries, k), NO_RESULT, np.int64), np.full((queries, k), NO_SCORE, np.float32)
