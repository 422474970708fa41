"""Compiled code of `impact-two-step`: queries cut to their strongest lexicons, and exact scores of candidates."""

import numba
import numpy as np

U64 = np.uint64


@numba.njit(cache=True, nogil=True)
def cut(indptr, lexicons, weights, keep, kept_indptr, kept_lexicons, kept_weights):
    """Copies the `keep` largest weights of each row; of equal weights, those of lower lexicons. Fills the outputs.

    The first `kept_indptr[-1]` entries of the outputs are used; their order within a row is that of the input.
    """
    at = 0
    for row in range(indptr.size - 1):
        start, stop = indptr[row], indptr[row + 1]
        smallest, ties = 0, stop - start
        if stop - start > keep:
            smallest = np.partition(weights[start:stop], stop - start - keep)[stop - start - keep]
            ties = keep - np.sum(weights[start:stop] > smallest)
        for i in range(start, stop):
            if weights[i] == smallest:
                ties -= 1
            if weights[i] > smallest or (weights[i] == smallest and ties >= 0):
                kept_lexicons[at], kept_weights[at] = lexicons[i], weights[i]
                at += 1
        kept_indptr[row + 1] = at


@numba.njit(cache=True, nogil=True)
def rescore(indptr, lexicons, weights, first, of_documents, impacts, id_bits, dense, queries, keys):
    """Replaces the score in each key by the exact product of query and document, then sorts the row, best first.

    indptr, lexicons, weights: CSR rows of the queries. first, of_documents, impacts: CSR rows of the documents. dense:
    scratch (V,) uint64, zero before and after. queries: rows (first, end) of `keys`, (Q, C) uint64; 0 is padding.
    """
    mask = (U64(1) << U64(id_bits)) - U64(1)
    for query in range(queries[0], queries[1]):
        for i in range(indptr[query], indptr[query + 1]):
            dense[lexicons[i]] = weights[i]
        row = keys[query]
        for place in range(row.size):
            if row[place]:
                document = mask - (row[place] & mask)
                score = U64(0)
                for i in range(first[document], first[document + U64(1)]):
                    score += dense[of_documents[i]] * U64(impacts[i])
                row[place] = (score << U64(id_bits)) | (row[place] & mask)
        for i in range(indptr[query], indptr[query + 1]):
            dense[lexicons[i]] = U64(0)
        row.sort()
        row[:] = row[::-1].copy()
