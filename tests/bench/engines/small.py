"""One small set of vectors for the tests of every engine, and brute force over it by Python's own sort."""

import numpy as np
import scipy.sparse as sp

from bench import engines
from bench.vectors.impacts import Impacts
from bench.vectors.read import DenseVectors, LexiconVectors

ITEMS, QUERIES, DIMENSION, LEXICONS = 700, 12, 32, 120
SCALES = {None: 1.0, 8: 100.0, 16: 1000.0}


def unit(rows) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def dense() -> tuple[np.ndarray, np.ndarray]:
    """Clustered unit vectors (ITEMS, DIMENSION), and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, DIMENSION))
    values = unit(centres[rng.integers(0, 20, ITEMS)] + 0.6 * rng.normal(size=(ITEMS, DIMENSION)))
    return values, unit(values[:QUERIES] + 0.06 * rng.normal(size=(QUERIES, DIMENSION)))


def sparse(count: int, seed: int) -> sp.csr_array:
    """Rows of about seven lexicons; the last row has none."""
    rng = np.random.default_rng(seed)
    rows = sp.random_array((count - 1, LEXICONS), density=0.06, random_state=rng, dtype=np.float32, format="csr")
    return sp.csr_array(sp.vstack([rows, sp.csr_array((1, LEXICONS), dtype=np.float32)]))


def vectors_for(engine: engines.Engine, bits: int | None = None):
    """Documents in two shards, queries, and their exact products (QUERIES, ITEMS)."""
    if engine.kind == "dense":
        values, queries = dense()
        return DenseVectors([values[:300], values[300:]], DIMENSION), queries, products(queries, values)
    rows = sparse(ITEMS, 0)
    documents = Impacts(LexiconVectors([rows[:300], rows[300:]], LEXICONS), None, bits, SCALES[bits])
    queries = Impacts(LexiconVectors.of(sparse(QUERIES, 1)), None, bits, SCALES[bits]).to_scipy()
    return documents, queries, products(queries, documents.to_scipy())


def products(queries, documents) -> np.ndarray:
    """Inner products of all pairs: int64 for impacts, else float64."""
    queries, documents = (rows.toarray() if sp.issparse(rows) else rows for rows in (queries, documents))
    wide = np.int64 if documents.dtype.kind == "u" else np.float64
    return queries.astype(wide) @ documents.astype(wide).T


def brute_force(scores, k: int, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids (Q, k) and scores (Q, k) by sorting everything. positive: leaves out scores of 0."""
    ids, best = np.full((len(scores), k), -1), np.full((len(scores), k), -np.inf, np.float32)
    for row, of_row in enumerate(scores):
        order = sorted(range(len(of_row)), key=lambda i: (-of_row[i], i))
        order = [i for i in order if of_row[i] > 0 or not positive][:k]
        ids[row, : len(order)], best[row, : len(order)] = order, of_row[order]
    return ids, best


def check_results(ids: np.ndarray, scores: np.ndarray, k: int) -> None:
    """The contract of every result: shape, dtype, order, padding, no item twice."""
    assert ids.shape == scores.shape == (len(ids), k) and (ids.dtype, scores.dtype) == (np.int64, np.float32)
    assert (np.isneginf(scores) == (ids == -1)).all() and (ids >= -1).all()
    for row, of_row in zip(ids, scores, strict=True):
        found = row[row >= 0]
        assert len(set(found)) == len(found) and (row[: len(found)] >= 0).all()
        order = list(zip(-of_row[: len(found)], found, strict=True))
        assert order == sorted(order)
