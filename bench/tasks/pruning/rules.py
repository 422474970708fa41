"""Rules that choose which lexicons of a collection are kept, each at any total number of postings.

A rule gives every entry a key, and the entries with the lowest keys are kept: how many decides the size of the index,
so rules can be compared at exactly equal size. Rows are CSR (N, V) of positive weights.
"""

from __future__ import annotations

import numpy as np
import scipy


def rank_in_row(rows: scipy.sparse.csr_array) -> np.ndarray:
    """(entries,) int64: 0 for the largest weight of its row, and so on; of equal weights, the lower lexicon first."""
    of_row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((rows.indices, -rows.data, of_row))
    ranks = np.empty(rows.nnz, np.int64)
    ranks[order] = np.arange(rows.nnz) - rows.indptr[of_row[order]]
    return ranks


def mass_before(rows: scipy.sparse.csr_array) -> np.ndarray:
    """(entries,) float64: share of the row's weight on larger entries. At least m of it is kept by keys below m."""
    of_row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((rows.indices, -rows.data, of_row))
    before = np.concatenate([[0.0], np.cumsum(rows.data[order], dtype=np.float64)])
    starts = before[rows.indptr[:-1]]
    totals = np.maximum(before[rows.indptr[1:]] - starts, np.finfo(np.float64).tiny)
    keys = np.empty(rows.nnz)
    keys[order] = (before[:-1] - starts[of_row[order]]) / totals[of_row[order]]
    return keys


RULES = {
    "count": lambda rows: rank_in_row(rows).astype(np.float64),
    "mass": mass_before,
    "threshold": lambda rows: -rows.data.astype(np.float64),
}
PUBLISHED = "published"
RULES[PUBLISHED] = RULES["count"]
"""count: the same number for every item. mass: the smallest set that holds a share of the item's weight. threshold:
every weight above a value that all items share; weights of L2-normalised items are meant. published: as count, and the
items are not made unit vectors again, as Luo et al., 2023, prune."""


def kept(rows: scipy.sparse.csr_array, rule: str, postings: int) -> tuple[scipy.sparse.csr_array, float]:
    """The `postings` entries that a rule keeps (all if there are fewer), and its parameter.

    The parameter is the number of lexicons of the longest item, the share of weight, or the smallest weight. Entries of
    equal key are kept in the order of the items.
    """
    keys = RULES[rule](rows)
    count = min(postings, rows.nnz)
    chosen = np.sort(np.argsort(keys, kind="stable")[:count])
    indptr = np.searchsorted(chosen, rows.indptr)
    parts = rows.data[chosen], rows.indices[chosen], indptr
    last = float(keys[chosen].max()) if count else 0.0
    return scipy.sparse.csr_array(parts, shape=rows.shape), {"count": last + 1, PUBLISHED: last + 1, "mass": last}.get(
        rule, -last
    )
