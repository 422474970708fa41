"""Metric functions over ranks, sizes and latencies. `bench/store/metrics.yaml` defines each metric. numpy only.

Arguments of the retrieval metrics
- ranks: for each query the 1-based ranks of its relevant items among the retrieved ones, ascending; empty if none was
  retrieved.
- relevant: for each query the number of relevant items in the gallery.
- depth: number of results that a query retrieves.
"""

from collections.abc import Sequence

import numpy as np

NDCG_DEPTH = 10

# --- per query ---


def first_rank(ranks: Sequence[Sequence[int]], missing: float) -> np.ndarray:
    """(Q,) float64: rank of the first relevant item; `missing` for a query that retrieved none."""
    return np.array([r[0] if len(r) else missing for r in ranks], dtype=np.float64)


def success(ranks: Sequence[Sequence[int]], k: int) -> np.ndarray:
    """(Q,) float64: 1 if at least one relevant item is in the top k, else 0.

    Trap: the mean is Success@K. Image-text retrieval prints it as "R@K", but it is not the recall of trec_eval.
    """
    return (first_rank(ranks, np.inf) <= k).astype(np.float64)


def trec_recall(ranks: Sequence[Sequence[int]], relevant: Sequence[int], k: int) -> np.ndarray:
    """(Q,) float64: share of a query's relevant items in the top k.

    Trap: 0 for a query without relevant items, as in trec_eval; such a query is not left out.
    """
    found = np.array([np.searchsorted(np.asarray(r), k, side="right") for r in ranks], dtype=np.float64)
    return found / np.maximum(np.asarray(relevant, dtype=np.float64), 1)


# --- over all queries ---


def success_at(k: int, ranks, relevant, depth: int) -> float:
    """Success@K, the "R@K" of image-text retrieval: mean of `success`. Raises ValueError if depth < k."""
    _check_depth(k, depth)
    return float(success(ranks, k).mean())


def trec_recall_at(k: int, ranks, relevant, depth: int) -> float:
    """recall_K of trec_eval: mean of `trec_recall`. Raises ValueError if depth < k.

    Trap: with n relevant items per query it cannot exceed K / n: five captions per image limit recall@1 to 0.2.
    """
    _check_depth(k, depth)
    return float(trec_recall(ranks, relevant, k).mean())


def median_rank(ranks, relevant, depth: int) -> float:
    """Median over queries of the rank of the first relevant item.

    Trap: an item that was not retrieved counts as rank depth + 1, so a value above `depth` means "beyond depth". This
    also holds if depth is the gallery size: lexicon engines do not return documents of score 0.
    """
    return float(np.median(first_rank(ranks, depth + 1)))


def r_precision(ranks: Sequence[Sequence[int]], relevant: Sequence[int]) -> float:
    """R-Precision: share of the top R that is relevant, mean over queries; R is a query's number of relevant items.

    relevant: at least 1 for each query. Trap: `ranks` must cover the largest R; relevant items beyond R do not count.
    """
    found = [np.searchsorted(of_query, count, side="right") for of_query, count in zip(ranks, relevant, strict=True)]
    return float(np.mean([hits / count for hits, count in zip(found, relevant, strict=True)]))


def map_at_r(ranks: Sequence[Sequence[int]], relevant: Sequence[int]) -> float:
    """mAP@R (Musgrave et al., 2020, arXiv 2003.08505), mean over queries.

    Per query: sum over the relevant items in the top R of the precision at their rank, divided by R. Arguments as in
    `r_precision`. Trap: not average precision (AP), which counts relevant items beyond rank R too.
    """
    values = []
    for of_query, count in zip(ranks, relevant, strict=True):
        found = np.asarray(of_query)[: np.searchsorted(of_query, count, side="right")]
        values.append(float((np.arange(1, len(found) + 1) / found).sum() / count))
    return float(np.mean(values))


def ndcg(grades: np.ndarray, ideal: Sequence[Sequence[float]], k: int = NDCG_DEPTH) -> float:
    """nDCG@K (Jarvelin and Kekalainen, 2002) as ndcg_cut_K of trec_eval, mean over queries.

    Per query: sum over the top K of grade / log2(rank + 1), divided by that of the best order of its relevant items.

    grades: (Q, >= K) of the retrieved items, 0 for items that are not relevant. ideal: per query, the grades of its
    relevant items, descending. Traps: the gain is the grade, not 2**grade - 1 as in some papers; 0 for a query
    without relevant items.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = np.array([np.dot(of_query[:k], discounts[: len(of_query)]) for of_query in ideal], np.float64)
    return float((grades[:, :k] @ discounts / np.where(best > 0, best, 1)).mean())


def overlap(found: np.ndarray, exact: np.ndarray, k: int) -> float:
    """Share of the exact top k that an engine returned: mean over queries of |found & exact| / |exact|.

    Arguments: ids (Q, >= k) int64, padded with -1. Trap: queries with an empty exact result are left out; 1.0 if all
    are.
    """
    shares = []
    for got, want in zip(found[:, :k], exact[:, :k], strict=True):
        want = set(want[want >= 0].tolist())
        if want:
            shares.append(len(want & set(got.tolist())) / len(want))
    return float(np.mean(shares)) if shares else 1.0


def mean_per_class(ranks: Sequence[Sequence[int]], classes: Sequence[int]) -> float:
    """Top-1 accuracy per class, averaged over the classes that have items, so that frequent classes weigh no more.

    ranks: per item, [rank of its own class]; classes: (N,) int, the class of each item, N at least 1.
    Trap: differs from overall accuracy if the classes have different sizes.
    """
    correct, classes = success(ranks, 1), np.asarray(classes, np.int64)
    items = np.bincount(classes)
    return float((np.bincount(classes, weights=correct)[items > 0] / items[items > 0]).mean())


def evaluate(ranks, relevant, depth: int) -> dict[str, float]:
    """All retrieval metrics that `depth` permits: {"recall@1": ..., "trec_recall@1": ..., ..., "median_rank": ...}."""
    values = {}
    for k in (1, 5, 10):
        if k <= depth:
            values[f"recall@{k}"] = success_at(k, ranks, relevant, depth)
            values[f"trec_recall@{k}"] = trec_recall_at(k, ranks, relevant, depth)
    return values | {"median_rank": median_rank(ranks, relevant, depth)}


# --- distributions ---


def gini(sizes: np.ndarray) -> float:
    """Gini coefficient of non-negative sizes: 0 if all are equal, towards 1 if one has everything.

    Trap: 0 for no sizes and for sizes that are all zero, where the coefficient is not defined.
    """
    ordered = np.sort(np.asarray(sizes, np.float64))
    if not ordered.sum():
        return 0.0
    weighted = 2 * np.dot(np.arange(1, len(ordered) + 1), ordered) / (len(ordered) * ordered.sum())
    return float(weighted - (len(ordered) + 1) / len(ordered))


def percentile(latencies_us: np.ndarray, share: float) -> float:
    """The smallest measured latency that at least `share` per cent of the queries do not exceed.

    Trap: no interpolation, unlike numpy's default: the result is always one of the measured values.
    """
    return float(np.percentile(np.asarray(latencies_us, np.float64), share, method="inverted_cdf"))


def _check_depth(k: int, depth: int) -> None:
    if k > depth:
        raise ValueError(f"recall@{k} needs at least {k} retrieved items, got {depth}")
