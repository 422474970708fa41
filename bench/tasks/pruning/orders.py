"""Orders of documents, as permutations (N,) int64: similar documents side by side make the maxima of blocks tighter."""

from __future__ import annotations

import numpy as np
import scipy

PROJECTED = 64  # dimensions of the projection that is clustered
PER_CLUSTER = 256  # documents per cluster, about
CLUSTERED = 64  # documents per cluster that the clusters are fitted to, at most


def given(documents: scipy.sparse.csr_array, seed: int) -> np.ndarray:
    """The order that the documents have."""
    return np.arange(documents.shape[0])


def clustered(documents: scipy.sparse.csr_array, seed: int) -> np.ndarray:
    """By k-means cluster of a random projection; neighbouring clusters follow each other.

    A Gaussian projection of L2-normalised rows to 64 dimensions keeps products up to about 0.1. Clusters are ordered by
    a greedy chain: from each to the nearest one that is left.
    """
    import faiss

    count = documents.shape[0]
    clusters = max(1, count // PER_CLUSTER)
    axes_VD = np.random.default_rng(seed).normal(size=(documents.shape[1], PROJECTED)).astype(np.float32)
    lengths_N = np.sqrt((documents.astype(np.float32) ** 2).sum(axis=1))
    points_ND = (documents.astype(np.float32) @ axes_VD) / np.maximum(lengths_N, 1)[:, None]
    means = faiss.Kmeans(PROJECTED, clusters, seed=seed, max_points_per_centroid=CLUSTERED, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(points_ND, np.float32))
    cluster_N = means.index.search(np.ascontiguousarray(points_ND, np.float32), 1)[1][:, 0]
    place_C = np.empty(clusters, np.int64)
    place_C[_chain(means.centroids)] = np.arange(clusters)
    return np.argsort(place_C[cluster_N], kind="stable")


def _chain(points_CD: np.ndarray) -> np.ndarray:
    left, chain = np.ones(len(points_CD), bool), [0]
    left[0] = False
    while left.any():
        distance_C = ((points_CD - points_CD[chain[-1]]) ** 2).sum(axis=1)
        chain.append(int(np.where(left, distance_C, np.inf).argmin()))
        left[chain[-1]] = False
    return np.array(chain)


def bisected(documents: scipy.sparse.csr_array, seed: int) -> np.ndarray:
    """The order in which `impact-blockmax` stores documents."""
    from bench.engines.lexicon import blockmax

    return blockmax.bisected(documents, seed)


ORDERS = {"given": given, "clustered": clustered, "bisected": bisected}
