"""Fusion of the results of two searches. Pure functions over ids (Q, N) int64, padded with -1, and scores (Q, N).

A result that only one of the searches returned has no score in the other, as in engines that fuse lists. Results are
ordered by fused score, then by id.
"""

from dataclasses import dataclass

import numpy as np

RRF_K = 60
"""Constant of reciprocal rank fusion (Cormack et al., 2009), as published."""
DEVIATIONS = 3.0
"""Standard deviations around the mean that distribution-based scores span (Mazzeschi, 2023; also in Qdrant)."""


@dataclass(frozen=True)
class Union:
    """The results of two searches side by side: for each query, every item that either of them returned.

    ids: (Q, C) int64, ascending, padded with -1. scores, ranks: (2, Q, C), of each search; ranks are 1-based. Both are
    infinite (scores negative) where a search did not return the item.
    """

    ids: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray

    @classmethod
    def of(cls, ids: tuple[np.ndarray, np.ndarray], scores: tuple[np.ndarray, np.ndarray]) -> "Union":
        """The union of results: ids and scores (Q, N) of each search, best first."""
        found = [np.union1d(first[first >= 0], second[second >= 0]) for first, second in zip(*ids, strict=True)]
        shape = len(found), max(map(len, found), default=0)
        both, of_scores = np.full(shape, -1), np.full((2, *shape), -np.inf)
        ranks = np.full((2, *shape), np.inf)
        for query, items in enumerate(found):
            both[query, : len(items)] = items
            for side in (0, 1):
                real = ids[side][query] >= 0
                places = np.searchsorted(items, ids[side][query][real])
                of_scores[side, query, places] = scores[side][query][real]
                ranks[side, query, places] = 1 + np.arange(len(places))
        return cls(both, of_scores, ranks)

    def best(self, fused: np.ndarray, k: int) -> np.ndarray:
        """ids (Q, k) by fused score (Q, C), padded with -1."""
        fused = np.where(self.ids >= 0, fused, -np.inf)
        order = np.argsort(-fused, axis=1, kind="stable")[:, :k]  # ids ascend, so the lower id comes first
        ids = np.take_along_axis(self.ids, order, axis=1)
        return np.pad(ids, ((0, 0), (0, k - ids.shape[1])), constant_values=-1)


def reciprocal_rank(union: Union) -> np.ndarray:
    """Reciprocal rank fusion, (Q, C): the sum over searches of 1 / (60 + rank)."""
    return (1 / (RRF_K + union.ranks)).sum(axis=0)


def convex(union: Union, weight: float) -> np.ndarray:
    """(Q, C): weight x first + (1 - weight) x second, of scores that range from 0 to 1 within each query's results.

    Bruch et al., 2023, "An Analysis of Fusion Functions for Hybrid Retrieval" (arXiv 2210.11934). An item that a search
    did not return gets 0, as its last result does.
    """
    first, second = map(_between_0_and_1, union.scores)
    return weight * first + (1 - weight) * second


def distribution_based(union: Union) -> np.ndarray:
    """(Q, C): the sum of both scores, mapped so that mean +- 3 standard deviations of a query's results are 0 to 1.

    As in Qdrant, a score outside is not cut: those of the best results often are. An item not returned gets 0.
    """
    return sum(map(_standardised, union.scores))


def _between_0_and_1(scores_QC: np.ndarray) -> np.ndarray:
    returned = np.isfinite(scores_QC)
    low = np.where(returned, scores_QC, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    high = scores_QC.max(axis=1, initial=-np.inf, keepdims=True)
    span = np.where(high > low, high - low, 1)
    low = np.where(high > low, low, high - 1)  # equal scores are all 1
    return np.where(returned, (np.where(returned, scores_QC, 0) - np.where(np.isfinite(low), low, 0)) / span, 0)


def _standardised(scores_QC: np.ndarray) -> np.ndarray:
    returned = np.isfinite(scores_QC)
    count = np.maximum(returned.sum(axis=1, keepdims=True), 1)
    known = np.where(returned, scores_QC, 0)
    mean = known.sum(axis=1, keepdims=True) / count
    deviation = np.sqrt((np.where(returned, known - mean, 0) ** 2).sum(axis=1, keepdims=True) / count)
    span = np.where(deviation > 0, 2 * DEVIATIONS * deviation, 1)
    return np.where(returned, (known - mean) / span + 0.5, 0)


def reranked(ids: np.ndarray, scores: np.ndarray, first: int) -> np.ndarray:
    """A cascade: the `first` results of a search in the order of another model's scores; the others stay behind.

    ids: (Q, N) of the search. scores: (Q, first) of the other model for its first results; -inf for padding. Returns
    ids (Q, N); of equal scores, the lower id comes first.
    """
    head = ids[:, :first]
    order = np.lexsort((head, -scores), axis=1)
    return np.concatenate([np.take_along_axis(head, order, axis=1), ids[:, first:]], axis=1)
