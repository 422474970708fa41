"""The functions that turn rankings, counts and latencies into metrics; `bench.tasks.metrics` says what each is called and means.

Those of retrieval take `ranks` (for each query the 1-based ranks of its relevant items among the retrieved ones, ascending; empty when none
was retrieved), `relevant` (for each query the number of relevant items in the gallery) and `depth` (how many were retrieved). numpy only.
"""

from collections.abc import Sequence

import numpy as np

# --- per query --------------------------------------------------------------------------------------------------------------------


def first_rank(ranks: Sequence[Sequence[int]], missing: float) -> np.ndarray:
    """(Q,) float64 rank of the first relevant item of each query; `missing` where none was retrieved."""
    return np.array([r[0] if len(r) else missing for r in ranks], dtype=np.float64)


def success(ranks: Sequence[Sequence[int]], k: int) -> np.ndarray:
    """(Q,) float64: 1 where at least one relevant item is among the top k, else 0. Its mean is Success@K, which the field prints as R@K."""
    return (first_rank(ranks, np.inf) <= k).astype(np.float64)


def trec_recall(ranks: Sequence[Sequence[int]], relevant: Sequence[int], k: int) -> np.ndarray:
    """(Q,) float64: share of a query's relevant items that are among the top k. 0 where a query has no relevant item, as trec_eval."""
    found = np.array([np.searchsorted(np.asarray(r), k, side="right") for r in ranks], dtype=np.float64)
    return found / np.maximum(np.asarray(relevant, dtype=np.float64), 1)


# --- over the queries -------------------------------------------------------------------------------------------------------------


def success_at(k: int, ranks, relevant, depth: int) -> float:
    """Success@K, the "R@K" of image-text retrieval. `depth` must reach k."""
    _reach(k, depth)
    return float(success(ranks, k).mean())


def trec_recall_at(k: int, ranks, relevant, depth: int) -> float:
    """recall_K of trec_eval, averaged over queries. `depth` must reach k."""
    _reach(k, depth)
    return float(trec_recall(ranks, relevant, k).mean())


def median_rank(ranks, relevant, depth: int) -> float:
    """Median over queries of the rank of the first relevant item.

    The trap: an item that was not retrieved counts as rank depth + 1, so a value above `depth` only says "beyond depth". With
    depth = gallery size nothing is hidden, but for lexicon engines, which do not return documents of score 0.
    """
    return float(np.median(first_rank(ranks, depth + 1)))


def flops_per_pair(query_share: np.ndarray, document_share: np.ndarray) -> float:
    """Expected multiply-adds of one query-document score over an inverted index.

    sum over lexicons v of P(v active in a query) * P(v active in a document), the FLOPS of SPLADE (Formal et al., 2021,
    arXiv 2107.05720) taken between queries and documents. Arguments: (V,) shares in 0..1. A dense score of dimension D costs D.
    """
    return float(np.dot(np.asarray(query_share, np.float64), np.asarray(document_share, np.float64)))


def overlap(found: np.ndarray, exact: np.ndarray, k: int) -> float:
    """Share of the exact top k that an engine returned: mean over queries of |found & exact| / |exact|.

    Arguments: ids (Q, >= k) int64, padded with -1. Queries whose exact result is empty are left out; 1.0 when all are.
    """
    shares = []
    for got, want in zip(found[:, :k], exact[:, :k], strict=True):
        want = set(want[want >= 0].tolist())
        if want:
            shares.append(len(want & set(got.tolist())) / len(want))
    return float(np.mean(shares)) if shares else 1.0


def mean_per_class(ranks: Sequence[Sequence[int]], classes: Sequence[int]) -> float:
    """Accuracy of each class by itself, averaged over the classes that have items: none weighs more for being frequent.

    Arguments: ranks of each item's own class, and that class (N,), N at least 1.
    """
    right, classes = success(ranks, 1), np.asarray(classes, np.int64)
    items = np.bincount(classes)
    return float((np.bincount(classes, weights=right)[items > 0] / items[items > 0]).mean())


def gini(sizes: np.ndarray) -> float:
    """Gini coefficient of non-negative sizes: 0 when all are equal, towards 1 when one has all; 0 where there are none."""
    ordered = np.sort(np.asarray(sizes, np.float64))
    if not ordered.sum():
        return 0.0
    return float(
        2 * np.dot(np.arange(1, len(ordered) + 1), ordered) / (len(ordered) * ordered.sum())
        - (len(ordered) + 1) / len(ordered)
    )


def percentile(latencies_us: np.ndarray, share: float) -> float:
    """The smallest measured latency that at least `share` per cent of the queries do not exceed (no interpolation)."""
    return float(np.percentile(np.asarray(latencies_us, np.float64), share, method="inverted_cdf"))


def evaluate(ranks, relevant, depth: int) -> dict[str, float]:
    """All retrieval metrics that `depth` allows: {"recall@1": ..., "trec_recall@1": ..., "median_rank": ...}."""
    values = {}
    for k in (1, 5, 10):
        if k <= depth:
            values[f"recall@{k}"] = success_at(k, ranks, relevant, depth)
            values[f"trec_recall@{k}"] = trec_recall_at(k, ranks, relevant, depth)
    return values | {"median_rank": median_rank(ranks, relevant, depth)}


def _reach(k: int, depth: int) -> None:
    if k > depth:
        raise ValueError(f"recall@{k} cannot be told from {depth} retrieved items")
