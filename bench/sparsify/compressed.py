"""Dense vectors compressed to about as many bytes as lexicon vectors: product quantisation and RaBitQ, exact search."""

import math

import numpy as np

from models.errors import require

CODE_BITS = 8
CENTROIDS = 256
PER_CENTROID = 10  # vectors to train on


def compressed_rankings(
    train_nD: np.ndarray, documents_ND: np.ndarray, queries_QD: np.ndarray, wanted: float, depth: int
) -> dict[str, np.ndarray]:
    """Method and bytes an item -> ids (Q, depth) of exact search by inner product over the codes.

    wanted: bytes of a code. PQ takes the nearest number of bytes that D has a divisor for; with fewer than 2,560
    vectors to train on, of half-byte codes. RaBitQ has D / 8 bytes and 8 more, whatever is wanted. The trap: without
    `np` in its name, PQ adds a polysemous training that takes minutes and serves a filter that is not used here.
    """
    faiss, dimension = require("faiss", "cpu"), documents_ND.shape[1]
    bits = CODE_BITS if len(train_nD) >= CENTROIDS * PER_CENTROID else CODE_BITS // 2
    divisors = [part for part in range(1, dimension + 1) if dimension % part == 0]
    parts = min(divisors, key=lambda part: abs(math.log(part * bits / CODE_BITS / wanted)))
    if len(train_nD) < 2 ** (CODE_BITS // 2):  # repeated with both signs
        train_nD = np.resize(np.concatenate([train_nD, -train_nD]), (2 ** (CODE_BITS // 2), dimension))
    found = {}
    for name, factory in (("PQ", f"PQ{parts}x{bits}np"), ("RaBitQ", f"RR{dimension},RaBitQ")):
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        if name == "PQ":
            index.pq.cp.min_points_per_centroid = 1  # few vectors: no warning for each part
        index.train(np.ascontiguousarray(train_nD, np.float32))
        index.add(np.ascontiguousarray(documents_ND, np.float32))
        _, ids = index.search(np.ascontiguousarray(queries_QD, np.float32), min(depth, len(documents_ND)))
        inner = faiss.downcast_index(index.index) if name == "RaBitQ" else index
        found[f"{name}, {inner.sa_code_size()} bytes"] = ids.astype(np.int64)
    return found
