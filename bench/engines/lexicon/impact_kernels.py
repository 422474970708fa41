"""Compiled code of `impact`: packs posting lists and scores them.

Documents are cut into blocks of BLOCK, and the posting list of a lexicon into a segment per block. A segment is
    sparse  one uint16 per posting, by impact descending: the document's place in the block (14 bits) and a code (2
            bits) of the difference to the impact of the posting before it; `tops` holds the first impact. A larger
            difference takes several steps: fillers, whose place is past the block. Scoring reads 2 bytes a posting and
            does not multiply.
    dense   one uint8 impact per document of the block, if a quarter of them or more have the lexicon; 32 are added at a
            time.
A dense segment is recognised by its size, which no sparse one has.

Impacts of 16 bits are stored as two lists, of their low and of their high bytes; the latter is scored with 256 times
the query's weight.

A query is scored block by block, so that its accumulators (32 KB if scores fit 16 bits) stay in the L1 cache. The k-th
best score so far is the threshold that a group of accumulators must exceed to be examined.
"""

import numba
import numpy as np

PLACE_BITS = 14
BLOCK = 16_128  # documents: a multiple of GROUP that leaves places for fillers
GROUP = 128  # accumulators compared with the threshold at once
FILLER = 2**PLACE_BITS - 1
ACCUMULATORS = 2**PLACE_BITS
STEPS = (0, 1, 2, 5)  # differences that the 2-bit codes stand for; of the sets tried, the one with the fewest fillers
FILLERS = 127  # maximum in a segment: a difference of s needs at most s / 2, and differences add up to 254
# Postings from which a segment is dense. An eighth is 5% faster and 4% to 19% larger, a half 4% smaller and up to 20%
# slower.
DENSE_FROM = BLOCK // 4
DENSE_SIZE = BLOCK // 2  # in units of uint16

U8, U64 = np.uint8, np.uint64


@numba.njit(cache=True, nogil=True)
def longest(indptr, weights):
    """The largest squared length of a row, int64."""
    best = 0
    for row in range(indptr.size - 1):
        squares = 0
        for i in range(indptr[row], indptr[row + 1]):
            squares += np.int64(weights[i]) * np.int64(weights[i])
        best = max(best, squares)
    return best


@numba.njit(cache=True, nogil=True)
def pack(indptr, lexicons, weights, planes, sizes, tops):
    """The segments of one block of documents, concatenated, as uint16.

    indptr, lexicons, weights: CSR rows of the block. planes: bytes of an impact. Fills `sizes` (in uint16) and `tops`
    (highest impact) of the V x planes segments.
    """
    documents, impacts, ends = _by_list_and_impact(indptr, lexicons, weights, planes, sizes.size)
    packed = np.empty(2 * impacts.size + FILLERS * sizes.size, np.uint16)
    columns = packed.view(U8)
    at = start = 0
    for row in range(sizes.size):
        begin, stop = at, ends[row]
        tops[row] = impacts[start] if stop > start else 0
        if stop - start >= DENSE_FROM:
            packed[at : at + DENSE_SIZE] = 0
            for i in range(start, stop):
                columns[2 * at + documents[i]] = impacts[i]
            at += DENSE_SIZE
        else:
            impact = np.int64(tops[row])
            for i in range(start, stop):
                at = _write_posting(impact - np.int64(impacts[i]), documents[i], packed, at)
                impact = np.int64(impacts[i])
        sizes[row] = at - begin
        start = stop
    return packed[:at].copy()


@numba.njit(cache=True, nogil=True)
def _by_list_and_impact(indptr, lexicons, weights, planes, lists):
    """Documents and non-zero impact bytes by list, impact descending, document; ends of lists. Two counting sorts."""
    starts, ends = np.zeros(257, np.int64), np.zeros(lists + 1, np.int64)
    for i in range(indptr[-1]):
        for plane in range(planes):
            impact = (np.int64(weights[i]) >> (8 * plane)) & 255
            starts[256 - impact] += 1  # one place later, so that the cumulative sum is the start of each impact
            if impact:
                ends[lexicons[i] * planes + plane + 1] += 1
    starts, ends = np.cumsum(starts), np.cumsum(ends)
    total = ends[-1]
    row_of, document_of, impact_of = np.empty(total, np.int32), np.empty(total, np.uint16), np.empty(total, U8)
    for document in range(indptr.size - 1):
        for i in range(indptr[document], indptr[document + 1]):
            for plane in range(planes):
                impact = (np.int64(weights[i]) >> (8 * plane)) & 255
                if impact:
                    at = starts[255 - impact]
                    starts[255 - impact] = at + 1
                    row_of[at], document_of[at], impact_of[at] = lexicons[i] * planes + plane, document, impact
    documents, impacts = np.empty(total, np.uint16), np.empty(total, U8)
    for i in range(total):
        at = ends[row_of[i]]  # the start of its list, advanced to its end
        ends[row_of[i]] = at + 1
        documents[at], impacts[at] = document_of[i], impact_of[i]
    return documents, impacts, ends


@numba.njit(cache=True, nogil=True)
def _write_posting(difference, document, packed, at):
    """Writes a posting, and before it the fillers that the difference of impacts takes; returns the place after it."""
    while True:
        code = 3 if difference >= STEPS[3] else 2 if difference >= STEPS[2] else difference
        difference -= STEPS[code]
        packed[at] = (code << PLACE_BITS) | (FILLER if difference else document)
        at += 1
        if not difference:
            return at


@numba.njit(cache=True, nogil=True)
def spread(packed, sizes, block, blocks, offsets, postings):
    """Copies the segments of one block to their places in the posting lists."""
    at = 0
    for row in range(sizes.size):
        to = np.int64(offsets[row * blocks + block])
        for i in range(np.int64(sizes[row])):
            postings[to + i] = packed[at + i]
        at += np.int64(sizes[row])


@numba.njit(cache=True, nogil=True)
def search(
    offsets,
    tops,
    postings,
    columns,
    blocks,
    indptr,
    rows,
    weights,
    queries,
    of_blocks,
    accumulators,
    id_bits,
    bars,
    keys,
):
    """Fills `keys` (Q, k) for a range of queries and of blocks, both (first, end): best first, 0 as padding.

    A key is score << id_bits | (2**id_bits - 1 - id), so that keys sort as results do. weights: in the type of the
    accumulators, which are zero before and after. columns: the postings viewed as bytes. bars: for each query a score
    that k documents reach, shared by threads that search other blocks for it. It only rises; of two simultaneous
    updates one may be lost, which costs time but no result.
    """
    steps = np.zeros(4, np.uint64)
    for query in range(queries[0], queries[1]):
        heap, found = keys[query], 0
        for block in range(of_blocks[0], of_blocks[1]):
            for i in range(indptr[query], indptr[query + 1]):
                segment = U64(rows[i]) * U64(blocks) + U64(block)
                start, stop = offsets[segment], offsets[segment + U64(1)]
                if stop - start == U64(DENSE_SIZE):
                    _add_dense(columns[U64(2) * start : U64(2) * stop], weights[i], accumulators)
                else:
                    _add_sparse(postings[start:stop], U64(weights[i]), U64(tops[segment]), steps, accumulators)
            found = _collect(accumulators, block * BLOCK, U64(id_bits), bars[query], heap, found)
            if found == heap.size:
                bars[query] = max(bars[query], heap[0] >> U64(id_bits))
        for place in range(found - 1, -1, -1):  # the heap gives the worst first
            key = heap[0]
            heap[0] = heap[place]
            _sink(heap, place)
            heap[place] = key


@numba.njit(cache=True, nogil=True)
def _add_sparse(postings, weight, top, steps, accumulators):
    """Adds weight x impact. `steps` is scratch: products of neighbouring postings differ by one of four values."""
    product = weight * top
    steps[1], steps[2], steps[3] = weight * U64(STEPS[1]), weight * U64(STEPS[2]), weight * U64(STEPS[3])
    for i in range(postings.size):
        posting = U64(postings[i])
        product -= steps[posting >> U64(PLACE_BITS)]
        accumulators[posting & U64(FILLER)] += product


@numba.njit(cache=True, nogil=True)
def _add_dense(column, weight, accumulators):
    for i in range(BLOCK):
        accumulators[i] += weight * column[i]


@numba.njit(cache=True, nogil=True)
def _collect(accumulators, first, id_bits, reached, keys, found):
    """Puts the best scores of a block into the min-heap keys[:found], clears the accumulators; returns the new `found`.

    A later document with the score of the worst key has a higher id and never replaces it, so only scores above the
    threshold count. Other threads may have `reached` a higher score, by documents of higher ids: a score equal to it
    still counts.
    """
    mask = (U64(1) << id_bits) - U64(1)
    lowest = max(reached, U64(1)) - U64(1)
    if found == keys.size:
        lowest = max(lowest, keys[0] >> id_bits)
    bar = accumulators.dtype.type(lowest)  # as narrow as they are: compared 16 at a time
    for start in range(0, BLOCK, GROUP):
        group, passes = accumulators[start : start + GROUP], False
        for i in range(GROUP):
            passes |= group[i] > bar
        if passes:
            for i in range(GROUP):
                if group[i] > bar:
                    key = (U64(group[i]) << id_bits) | (mask - U64(first + start + i))
                    if found < keys.size:
                        keys[found] = key
                        found += 1
                        _rise(keys, found - 1)
                    else:
                        keys[0] = key
                        _sink(keys, found)
                    if found == keys.size:
                        bar = max(bar, accumulators.dtype.type(keys[0] >> id_bits))
    accumulators[:BLOCK] = 0
    return found


@numba.njit(cache=True, nogil=True)
def _rise(keys, at):
    key = keys[at]
    while at > 0 and keys[(at - 1) >> 1] > key:
        keys[at] = keys[(at - 1) >> 1]
        at = (at - 1) >> 1
    keys[at] = key


@numba.njit(cache=True, nogil=True)
def _sink(keys, size):
    """Restores the heap keys[:size] after keys[0] was replaced."""
    at, key = 0, keys[0]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at] = keys[child]
        at = child
    if size > 0:
        keys[at] = key


@numba.njit(cache=True, nogil=True)
def unpack(keys, id_bits, ids, scores):
    """Writes the ids and scores of keys; leaves `ids` and `scores` unchanged where a key is 0."""
    mask = (U64(1) << U64(id_bits)) - U64(1)
    for query in range(keys.shape[0]):
        for place in range(keys.shape[1]):
            key = keys[query, place]
            if key:
                ids[query, place] = np.int64(mask - (key & mask))
                scores[query, place] = np.float32(key >> U64(id_bits))
