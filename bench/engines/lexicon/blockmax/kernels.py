"""Compiled code of `impact-blockmax`: bounds the blocks of ordered documents, and scores the promising ones.

A block is BLOCK documents that follow each other in the index's order. Its bound is the sum over the query's lexicons
of weight times the highest impact in the block: no document of the block scores more. These maxima are stored by
lexicon, as a column over all blocks where 1 block in COLUMN_FROM or more has the lexicon, else as a list of blocks. A
query reads them in sequence, which takes less time than choosing among them by the bounds of larger blocks.

Blocks are then visited in passes over a falling level, from the highest bound to the k-th best score so far. A document
is scored from its CSR row.
"""

import numba
import numpy as np

from bench.engines.lexicon.impact_kernels import _rise, _sink, unpack

__all__ = ["highest", "largest", "maxima", "search", "unpack"]

BLOCK = 8  # documents; the fastest of 4, 8, 16 and 32 over a million images
COLUMN_FROM = 20  # of 5, 10, 20 and 40 the fastest, with 20 and 40 equal
GROUP = 32  # blocks of which the highest bound is kept
TILE = 256 * GROUP  # blocks whose bounds stay in the L1 cache
STEPS = 12  # passes if no document is found: with fewer more blocks are scored, with more the passes take longer

U64 = np.uint64


@numba.njit(cache=True, nogil=True)
def maxima(first, lexicons, impacts, dimension):
    """The highest impact of each lexicon in each block, of documents that are CSR rows.

    Returns column_of (V,), the column of a lexicon or -1; columns (C, B) uint8; list_starts (V + 1,), list_blocks (L,)
    and list_maxima (L,) uint8, the blocks of the lexicons without column and their maxima.
    """
    documents = first.size - 1
    blocks = (documents + BLOCK - 1) // BLOCK
    last, in_blocks = np.full(dimension, -1, np.int64), np.zeros(dimension, np.int64)
    for document in range(documents):
        for i in range(first[document], first[document + 1]):
            if last[lexicons[i]] != document // BLOCK:
                last[lexicons[i]] = document // BLOCK
                in_blocks[lexicons[i]] += 1
    column_of, list_starts, number = np.full(dimension, -1, np.int32), np.zeros(dimension + 1, np.int64), 0
    for lexicon in range(dimension):
        list_starts[lexicon + 1] = list_starts[lexicon]
        if in_blocks[lexicon] * COLUMN_FROM >= max(1, blocks):
            column_of[lexicon] = number
            number += 1
        else:
            list_starts[lexicon + 1] += in_blocks[lexicon]
    columns = np.zeros((number, blocks), np.uint8)
    list_blocks, list_maxima = np.zeros(list_starts[-1], np.uint32), np.zeros(list_starts[-1], np.uint8)
    ends = list_starts[:-1].copy()
    for document in range(documents):
        block = document // BLOCK
        for i in range(first[document], first[document + 1]):
            lexicon = lexicons[i]
            if column_of[lexicon] >= 0:
                columns[column_of[lexicon], block] = max(columns[column_of[lexicon], block], impacts[i])
            else:
                end = ends[lexicon]
                if end == list_starts[lexicon] or list_blocks[end - 1] != block:
                    list_blocks[end] = block
                    end = ends[lexicon] = end + 1
                list_maxima[end - 1] = max(list_maxima[end - 1], impacts[i])
    return column_of, columns, list_starts, list_blocks, list_maxima


@numba.njit(cache=True, nogil=True)
def highest(column_of, columns, list_starts, list_blocks, list_maxima):
    """The highest impact of each lexicon, (V,) int64. All as `maxima` returns them."""
    found = np.zeros(column_of.size, np.int64)
    for lexicon in range(column_of.size):
        if column_of[lexicon] >= 0:
            found[lexicon] = _highest(columns[column_of[lexicon]])
        elif list_starts[lexicon + 1] > list_starts[lexicon]:
            found[lexicon] = _highest(list_maxima[list_starts[lexicon] : list_starts[lexicon + 1]])
    return found


@numba.njit(cache=True, nogil=True)
def largest(indptr, lexicons, weights, tops):
    """The highest score that a document of the index could have for any of these queries, CSR rows, int64."""
    best = 0
    for query in range(indptr.size - 1):
        score = 0
        for i in range(indptr[query], indptr[query + 1]):
            score += np.int64(weights[i]) * tops[lexicons[i]]
        best = max(best, score)
    return best


@numba.njit(cache=True, nogil=True)
def search(indptr, lexicons, weights, queries, documents, of_blocks, id_bits, bounds, weight_of, keys):
    """Fills `keys` (Q, k) for a range of queries (first, end): best first, 0 as padding; see `impact_kernels.search`.

    indptr, lexicons, weights: CSR rows of the queries, weights in the type of `bounds`. documents: ids and CSR rows, in
    the index's order. of_blocks: as `maxima` returns them. bounds (B,): scratch. weight_of (V,) uint32: scratch, zero
    before and after.
    """
    groups = np.empty((bounds.size + GROUP - 1) // GROUP, bounds.dtype)
    for query in range(queries[0], queries[1]):
        begin, stop, heap, found = indptr[query], indptr[query + 1], keys[query], 0
        for i in range(begin, stop):
            weight_of[lexicons[i]] = weights[i]
        _bound(lexicons[begin:stop], weights[begin:stop], of_blocks, bounds, groups)
        level = np.uint64(_highest(groups))
        step = max(level // U64(STEPS), U64(1))
        bar = U64(0)
        while level > bar:
            bar = _bar(heap, found, id_bits)
            level = max(level - min(step, level), bar)
            lowest = bounds.dtype.type(level)  # as narrow as the bounds, which are compared several at a time
            for group in range(groups.size):
                if groups[group] >= lowest:
                    of_group = bounds[group * GROUP : (group + 1) * GROUP]
                    for i in range(of_group.size):
                        if of_group[i] >= lowest:
                            of_group[i] = 0
                            found = _score(group * GROUP + i, documents, weight_of, id_bits, heap, found)
                            lowest = max(lowest, bounds.dtype.type(_bar(heap, found, id_bits)))
                    groups[group] = _highest(of_group)
            bar = _bar(heap, found, id_bits)
        for i in range(begin, stop):
            weight_of[lexicons[i]] = 0
        heap.sort()
        heap[:] = heap[::-1].copy()


@numba.njit(cache=True, nogil=True)
def _bound(lexicons, weights, of_blocks, bounds, groups):
    """Fills the bound of each block, and the highest of each group of blocks, for one query."""
    column_of, columns, list_starts, list_blocks, list_maxima = of_blocks
    bounds[:] = 0
    for i in range(lexicons.size):
        for j in range(list_starts[lexicons[i]], list_starts[lexicons[i] + 1]):
            bounds[U64(list_blocks[j])] += weights[i] * list_maxima[j]
    for start in range(0, bounds.size, TILE):
        tile = bounds[start : start + TILE]
        for i in range(lexicons.size):
            if column_of[lexicons[i]] >= 0:
                _add(columns[column_of[lexicons[i]], start : start + TILE], weights[i], tile)
        for group in range(start // GROUP, (start + tile.size + GROUP - 1) // GROUP):
            groups[group] = _highest(bounds[group * GROUP : (group + 1) * GROUP])


@numba.njit(cache=True, nogil=True)
def _add(column, weight, bounds):
    for block in range(bounds.size):
        bounds[block] += weight * column[block]


@numba.njit(cache=True, nogil=True)
def _highest(values):
    best = values[0]
    for i in range(values.size):
        best = max(best, values[i])
    return best


@numba.njit(cache=True, nogil=True)
def _bar(keys, found, id_bits):
    """The least score that may enter the min-heap keys[:found]: of equal scores, the lower id decides."""
    return max(keys[0] >> U64(id_bits), U64(1)) if found == keys.size else U64(1)


@numba.njit(cache=True, nogil=True)
def _score(block, documents, weight_of, id_bits, keys, found):
    """Puts the best documents of a block into the min-heap keys[:found]; returns the new `found`."""
    ids, first, lexicons, impacts = documents
    mask, bar = (U64(1) << U64(id_bits)) - U64(1), _bar(keys, found, id_bits)
    for place in range(block * BLOCK, min((block + 1) * BLOCK, ids.size)):
        score = np.uint32(0)
        for i in range(U64(first[place]), U64(first[place + 1])):
            score += weight_of[lexicons[i]] * np.uint32(impacts[i])
        if score >= bar:
            key = (U64(score) << U64(id_bits)) | (mask - U64(ids[place]))
            if found < keys.size:
                keys[found] = key
                found += 1
                _rise(keys, found - 1)
            elif key > keys[0]:
                keys[0] = key
                _sink(keys, found)
            bar = _bar(keys, found, id_bits)
    return found
