"""This project's own exact engine: an inverted index of impacts, scored term at a time within blocks of documents.

`impact_kernels` packs and scores posting lists, and says how. Files, memory-mapped: `postings.npy`, the posting lists
in order of lexicons, each cut into one segment per block of documents; `offsets.npy`, the start of each segment;
`impacts.npy`, its highest impact.

Notable choices
- Accumulators are as narrow as the scores allow: no score exceeds |query| x max |document| (Cauchy-Schwarz), which for
  L2-normalised vectors at scale 100 fits 16 bits.
- Threads divide a batch by queries, and a single query by blocks of documents. The kernels release the GIL.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.engines import ranking
from bench.engines.contract import Engine
from bench.vectors.read import load_mapped
from models.errors import InputError
from models.files import mapped_array, read_json, write_json

SLICES_PER_THREAD = 8  # parts of a batch or of the blocks per thread, so that threads finish together
BLOCKS_PER_SLICE = 8  # minimum: scoring fewer takes less time than waking a thread


class Impact(Engine):
    """Exact; impacts of 8 or 16 bits; no knobs. Scores are exact integers, returned as float32 (exact up to 2**24)."""

    name, kind, exact, weights, compiles = "impact", "lexicon", True, (8, 16), True
    other_modules = ("bench.engines.lexicon.impact_kernels",)

    def __init__(self):
        self._pool, self._pool_threads, self._free = None, 0, {}

    def build(self, vectors, folder, threads=1, **knobs):
        """Packs shards by blocks, then gathers segments by lexicon. Memory: a shard, a block, 3 bytes a segment."""
        folder, kernels = Path(folder), _kernels()
        self.check_impacts(vectors)
        planes = vectors.dtype.itemsize
        sizes, tops, longest, count = [], [], 0, 0
        packed = folder / "packed.partial"
        with open(packed, "wb") as file:
            for block in _blocks(vectors.shards(), kernels.BLOCK):
                sizes.append(np.zeros(vectors.dimension * planes, np.uint16))
                tops.append(np.zeros(vectors.dimension * planes, np.uint8))
                rows = _read_only(block)
                kernels.pack(*rows, planes, sizes[-1], tops[-1]).tofile(file)
                longest = max(longest, kernels.longest(rows[0], rows[2]))
                count += block.shape[0]
        np.save(folder / "impacts.npy", np.array(tops, np.uint8).T.ravel())
        _gather(packed, sizes, folder)
        packed.unlink()
        about = {"documents": count, "lexicons": vectors.dimension, "planes": planes, "block": kernels.BLOCK}
        about["longest"] = int(longest)  # the largest squared length of a document, which bounds the scores
        write_json(folder / "impact.json", about)

    def open(self, folder):
        folder, block = Path(folder), _kernels().BLOCK
        about = read_json(folder / "impact.json")
        self.count, self.dimension, self.longest = about["documents"], about["lexicons"], about["longest"]
        self.planes, self.blocks = about["planes"], math.ceil(self.count / block)
        parts = (load_mapped(folder / f"{part}.npy") for part in ("offsets", "impacts", "postings"))
        self.offsets, self.tops, self.postings = (_frozen(part) for part in parts)
        self.columns = _frozen(self.postings.view(np.uint8))
        segments = self.dimension * self.planes * self.blocks
        fits = about["block"] == block and len(self.offsets) == segments + 1 and len(self.tops) == segments
        if not fits or self.offsets[-1] != len(self.postings) or (self.offsets[1:] < self.offsets[:-1]).any():
            raise InputError(f"{folder}: posting lists do not match their offsets; build the index again (--force)")
        self.id_bits = max(1, (self.count - 1).bit_length())
        return self

    def search(self, queries, k, threads=1, **knobs):
        """queries: CSR array (Q, V) of unsigned integers."""
        self.check_queries(queries, self.dimension)
        ids, scores = ranking.empty(queries.shape[0], k)
        if self.count and k and queries.nnz:
            keys = self._best(_read_only(queries), min(k, self.count), threads)
            _kernels().unpack(keys, self.id_bits, ids, scores)
        return ids, scores

    def _best(self, rows: Sequence[np.ndarray], k: int, threads: int) -> np.ndarray:
        """Keys (Q, k) of the best documents (see `impact_kernels.search`). rows: CSR arrays of the queries."""
        kernels = _kernels()
        indptr, lexicons, weights = rows
        total = len(indptr) - 1
        dtype = self._accumulator(kernels.longest(indptr, weights))
        terms = self._lists(indptr, lexicons, weights.astype(dtype))
        many = threads * SLICES_PER_THREAD
        slices = _cut(total, many if threads > 1 else 1)
        parts = _cut(self.blocks, min(many, self.blocks // BLOCKS_PER_SLICE) if total < threads else 1)
        bars, keys = np.zeros(total, np.uint64), [np.zeros((total, k), np.uint64) for _ in parts]
        tasks = [(slice_, part, of_part) for part, of_part in zip(parts, keys, strict=True) for slice_ in slices]

        def score(tasks: Iterable[tuple]) -> None:
            accumulators = self._take(dtype)
            for task in tasks:
                self._score(terms, *task, bars, accumulators)
            self._free[dtype].append(accumulators)  # the search has cleared them

        self._share(tasks, score, threads)
        return keys[0] if len(keys) == 1 else _highest(np.concatenate(keys, axis=1), k)

    def _share(self, tasks: Sequence, work: Callable[[Iterable], None], threads: int) -> None:
        """Calls `work` in `threads` threads, each with an iterator over the tasks that no other thread has taken."""
        waiting = deque(tasks)

        def taken() -> Iterator:
            while waiting:
                try:
                    yield waiting.popleft()
                except IndexError:  # another thread took the last one
                    return

        helpers = [self._threads(threads).submit(work, taken()) for _ in range(min(threads, len(tasks)) - 1)]
        work(taken())
        for helper in helpers:
            helper.result()

    def touched_bytes(self, queries) -> np.ndarray:
        """Bytes of the posting lists that an exhaustive search reads for each query, a CSR row: (Q,) int64."""
        self.check_queries(queries, self.dimension)
        if not self.blocks:
            return np.zeros(queries.shape[0], np.int64)
        sizes = np.diff(self.offsets[:: self.blocks].astype(np.int64)) * self.postings.itemsize
        of_lexicons = sizes.reshape(self.dimension, self.planes).sum(axis=1)
        has = sp.csr_array((np.ones(queries.nnz, np.int64), queries.indices, queries.indptr), shape=queries.shape)
        return has @ of_lexicons

    def close(self):
        if self._pool:
            self._pool.shutdown()
        self._pool, self._free = None, {}

    def _accumulator(self, longest_query: int) -> type:
        """The narrowest type that no score overflows. longest_query: the largest squared length of a query."""
        largest = math.isqrt(longest_query * self.longest)
        if largest.bit_length() + self.id_bits > 64:
            raise InputError("impact: score and document id may exceed 64 bits together; quantise with a smaller scale")
        return np.uint16 if largest < 2**16 else np.uint32 if largest < 2**32 else np.uint64

    def _lists(self, indptr, lexicons, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posting lists of each query and their weights: one list per lexicon, or one per byte of its impacts."""
        if self.planes == 1:
            return indptr, lexicons, _frozen(weights)
        planes = np.arange(self.planes, dtype=np.int32)
        lists = (lexicons[:, None] * self.planes + planes).ravel()
        shifted = (weights[:, None] << (8 * planes).astype(weights.dtype)).ravel()
        return _frozen(indptr * self.planes), _frozen(lists.astype(lexicons.dtype)), _frozen(shifted)

    def _score(self, terms, queries, blocks, keys, bars, accumulators) -> None:
        of_index = (self.offsets, self.tops, self.postings, self.columns, self.blocks)
        _kernels().search(*of_index, *terms, queries, blocks, accumulators, self.id_bits, bars, keys)

    def _take(self, dtype) -> np.ndarray:
        free = self._free.setdefault(dtype, deque())
        try:
            return free.pop()
        except IndexError:
            return np.zeros(_kernels().ACCUMULATORS, dtype)

    def _threads(self, threads: int) -> ThreadPoolExecutor:
        """A pool of `threads` - 1 helpers of the calling thread."""
        if self._pool is None or self._pool_threads != threads:
            if self._pool:
                self._pool.shutdown()
            self._pool, self._pool_threads = ThreadPoolExecutor(threads - 1), threads
        return self._pool


def _kernels():
    """`impact_kernels`, whose numba takes a second to import."""
    from bench.engines.lexicon import impact_kernels

    return impact_kernels


def _blocks(shards: Iterable[sp.csr_array], size: int) -> Iterator[sp.csr_array]:
    """The rows of the shards, `size` at a time."""
    waiting, count = [], 0
    for shard in shards:
        start = 0
        while start < shard.shape[0]:
            waiting.append(shard[start : start + size - count])
            start, count = start + waiting[-1].shape[0], count + waiting[-1].shape[0]
            if count == size:
                yield sp.vstack(waiting, format="csr")
                waiting, count = [], 0
    if waiting:
        yield sp.vstack(waiting, format="csr")


def _gather(packed: Path, sizes: list[np.ndarray], folder: Path) -> None:
    """Writes the offsets of all segments, and the posting lists: the segments of each lexicon side by side."""
    ends = np.cumsum(np.array(sizes, np.uint16).T.ravel(), dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    offsets = np.concatenate([[0], ends]).astype(np.uint32 if total < 2**32 else np.uint64)
    np.save(folder / "offsets.npy", offsets)
    if not total:
        np.save(folder / "postings.npy", np.zeros(0, np.uint16))
        return
    postings = mapped_array(folder / "postings.npy", np.uint16, (total,))
    with open(packed, "rb") as file:
        for block, of_block in enumerate(sizes):
            segments = np.fromfile(file, np.uint16, int(of_block.sum(dtype=np.int64)))
            _kernels().spread(segments, of_block, block, len(sizes), offsets, postings)
    postings.flush()


def _cut(total: int, parts: int) -> list[tuple[int, int]]:
    """Cuts 0..total into at most `parts` ranges of about equal length."""
    parts = min(max(1, parts), total)
    return [(total * part // parts, total * (part + 1) // parts) for part in range(parts)]


def _highest(keys: np.ndarray, k: int) -> np.ndarray:
    """The k highest keys of each row (Q, C), best first."""
    return np.ascontiguousarray(np.sort(keys, axis=1)[:, ::-1][:, :k])


def _read_only(rows) -> list[np.ndarray]:
    """indptr, indices and data of a CSR array, of one type whether memory-mapped or not: numba compiles once."""
    return [
        _frozen(part)
        for part in (rows.indptr.astype(np.int64, copy=False), rows.indices.astype(np.int32, copy=False), rows.data)
    ]


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
