"""Our exact engine: an impact-quantised inverted index, scored term at a time.

Index: for each lexicon its posting list, document ids ascending (int32) and their impacts (uint8 or uint16), memory-mapped. Search: for
each lexicon of the query add query impact x document impact to one accumulator per document, then scan the accumulators for the top k. The
scan looks at blocks, skips those whose maximum does not pass the k-th best score so far, and clears them on the way. On large collections
that scan is a large part of the work, so accumulators are as narrow as the scores provably allow: no score exceeds |query| x max |document|
(Cauchy-Schwarz), which for L2-normalised vectors at scale 100 fits 16 bits.

Threads take slices of the batch; the kernels release the interpreter lock.
"""

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np

from bench.engines import Engine, ranking
from bench.files import read_json, write_json
from bench.vectors import load_mapped
from models.errors import InputError

BLOCK = 1024  # accumulators per block of the scan: 2 KB, inside the first-level cache
SLICES_PER_THREAD = 8  # of a batch, so that threads end together


class Impact(Engine):
    name, kind, exact, weights, compiles = "impact", "lexicon", True, (8, 16), True

    def __init__(self):
        self._pool, self._pool_threads, self._free = None, 0, {}

    def build(self, vectors, folder, threads=1, **knobs):
        """A counting sort by lexicon in two passes over the shards; holds one shard and V counters in memory."""
        folder = Path(folder)
        if vectors.dtype not in (np.uint8, np.uint16):
            raise InputError(f"impact: weights are {vectors.dtype}; quantise them to 8 or 16 bits")
        lengths = np.zeros(vectors.dimension, np.int64)
        for shard in vectors.shards():
            lengths += np.bincount(shard.indices, minlength=vectors.dimension)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        np.save(folder / "offsets.npy", offsets)
        documents = _new(folder / "documents.npy", np.int32, offsets[-1])
        impacts = _new(folder / "impacts.npy", vectors.dtype, offsets[-1])
        cursors, first, longest = offsets[:-1].copy(), 0, 0
        for shard in vectors.shards():
            longest = max(longest, _scatter(*_read_only(shard), first, cursors, documents, impacts))
            first += shard.shape[0]
        for array in (documents, impacts):
            if isinstance(array, np.memmap):
                array.flush()
        # longest: the largest squared length of a document, which bounds the scores
        write_json(folder / "impact.json", {"documents": first, "lexicons": vectors.dimension, "longest": int(longest)})

    def open(self, folder):
        folder = Path(folder)
        about = read_json(folder / "impact.json")
        self.count, self.dimension, self.longest = about["documents"], about["lexicons"], about["longest"]
        self.offsets, self.documents, self.impacts = (load_mapped(folder / f"{part}.npy") for part in ("offsets", "documents", "impacts"))
        if len(self.offsets) != self.dimension + 1 or not self.offsets[-1] == len(self.documents) == len(self.impacts):
            raise InputError(f"{folder}: the posting lists do not fit their offsets; build the index again (--force)")
        self.id_bits = max(1, (self.count - 1).bit_length())
        return self

    def search(self, queries, k, threads=1, **knobs):
        """queries: CSR (Q, V) of unsigned integers. Scores are exact integers, returned as float32 (exact up to 2**24)."""
        if queries.dtype.kind != "u" or queries.shape[1] != self.dimension:
            raise ValueError(f"queries of {queries.dtype} over {queries.shape[1]} lexicons; expected unsigned over {self.dimension}")
        ids, scores = ranking.empty(queries.shape[0], k)
        if not (self.count and k and queries.nnz):
            return ids, scores
        of_queries = _read_only(queries)
        dtype = self._accumulator(_longest(of_queries[0], of_queries[2]))
        width = min(k, self.count)

        def work(first: int, last: int) -> None:
            free = self._free.setdefault(dtype, deque())
            try:
                accumulators = free.pop()
            except IndexError:
                accumulators = np.zeros(self.count, dtype)
            keys = np.empty(width, np.uint64)
            _search(self.offsets, self.documents, self.impacts, *of_queries, first, last, accumulators, self.id_bits, keys, ids, scores)
            free.append(accumulators)  # the scan has cleared them

        total = queries.shape[0]
        if threads == 1 or total == 1:
            work(0, total)
        else:
            step = max(1, math.ceil(total / (threads * SLICES_PER_THREAD)))
            starts = range(0, total, step)
            list(self._threads(threads).map(work, starts, [min(start + step, total) for start in starts]))
        return ids, scores

    def close(self):
        if self._pool:
            self._pool.shutdown()
        self._pool, self._free = None, {}

    def _accumulator(self, longest_query: int) -> type:
        """The narrowest type that no score can overflow."""
        largest = math.isqrt(longest_query * self.longest)
        if largest.bit_length() + self.id_bits > 64:
            raise InputError("impact: scores may pass 64 bits together with the document id; quantise with a smaller scale")
        return np.uint16 if largest < 2**16 else np.uint32 if largest < 2**32 else np.uint64

    def _threads(self, threads: int) -> ThreadPoolExecutor:
        if self._pool is None or self._pool_threads != threads:
            if self._pool:
                self._pool.shutdown()
            self._pool, self._pool_threads = ThreadPoolExecutor(threads), threads
        return self._pool


def _read_only(rows) -> list[np.ndarray]:
    """indptr, indices, data of a CSR array as read-only views, memory-mapped or not: one type for numba, compiled once."""
    views = [part.view() for part in (rows.indptr, rows.indices, rows.data)]
    for view in views:
        view.flags.writeable = False
    return views


def _new(path: Path, dtype, size: int) -> np.ndarray:
    """A `.npy` file to write through a memory map; an empty one is simply written."""
    if size:
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(int(size),))
    np.save(path, np.zeros(0, dtype))
    return np.zeros(0, dtype)


@numba.njit(cache=True, nogil=True)
def _longest(indptr, weights):
    """The largest squared length of a row."""
    longest = 0
    for row in range(indptr.size - 1):
        squares = 0
        for i in range(indptr[row], indptr[row + 1]):
            squares += np.int64(weights[i]) * np.int64(weights[i])
        longest = max(longest, squares)
    return longest


@numba.njit(cache=True, nogil=True)
def _scatter(indptr, lexicons, weights, first, cursors, documents, impacts):
    """Appends the rows of a shard to the posting lists; returns the largest squared length of a row."""
    for row in range(indptr.size - 1):
        for i in range(indptr[row], indptr[row + 1]):
            at = cursors[lexicons[i]]
            documents[at] = first + row
            impacts[at] = weights[i]
            cursors[lexicons[i]] = at + 1
    return _longest(indptr, weights)


@numba.njit(cache=True, nogil=True)
def _search(offsets, documents, impacts, indptr, lexicons, weights, first, last, accumulators, id_bits, keys, ids, scores):
    """Queries first..last. `accumulators` (N,) are zero before and after; `keys` (width,) is scratch."""
    shift, mask = np.uint64(id_bits), (np.uint64(1) << np.uint64(id_bits)) - np.uint64(1)
    for query in range(first, last):
        for i in range(indptr[query], indptr[query + 1]):
            _add(documents, impacts, offsets[lexicons[i]], offsets[lexicons[i] + 1], weights[i], accumulators)
        found = _collect(accumulators, shift, mask, keys)
        for place in range(found - 1, -1, -1):  # the heap gives the worst first
            key = keys[0]
            keys[0] = keys[place]
            _sink(keys, place)
            ids[query, place] = np.int64(mask - (key & mask))
            scores[query, place] = np.float32(key >> shift)


@numba.njit(cache=True, nogil=True)
def _add(documents, impacts, start, stop, weight, accumulators):
    for i in range(start, stop):
        accumulators[documents[i]] += weight * impacts[i]


@numba.njit(cache=True, nogil=True)
def _collect(accumulators, shift, mask, keys):
    """Fills `keys` with a min-heap of the best (score, lowest id) and clears the accumulators; returns how many there are.

    A key is score << shift | (mask - id): its order is the order of results. A later document with the score of the worst key has a
    higher id and never replaces it, so only scores above the worst one are looked at.
    """
    found, floor = 0, np.uint64(0)
    for start in range(0, accumulators.size, BLOCK):
        block = accumulators[start : start + BLOCK]
        best = block[0]
        for score in block:
            best = max(best, score)
        if np.uint64(best) > floor:
            for i in range(block.size):
                score = np.uint64(block[i])
                if score > floor:
                    key = (score << shift) | (mask - np.uint64(start + i))
                    if found < keys.size:
                        keys[found] = key
                        found += 1
                        _rise(keys, found - 1)
                    else:
                        keys[0] = key
                        _sink(keys, found)
                    if found == keys.size:
                        floor = keys[0] >> shift
        if best > 0:
            block[:] = 0
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
