"""What the FAISS engines share: an inner-product index that is trained on a sample, filled shard by shard, written, read and searched.

Notable choices
- Training sees a sample: rows drawn without replacement over all shards, always the same ones. Nothing else of the vectors is in memory but
  the shard being added and the index.
- Where FAISS compares queries with vectors or centroids it scans query by query below a threshold and multiplies matrices (BLAS) from there
  on. The threshold's meaning changed between releases (number of queries, then queries x dimension, then that per thread), so these
  engines do not rely on it: they set it to "always" or "never" before each call, by the size of the batch (`blas_from`).
- Indexes are read into memory. FAISS's memory maps (`IO_FLAG_MMAP`, `IO_FLAG_MMAP_IFC`) are not used: see `FaissEngine.open`.
"""

import abc
import contextlib
import math
from pathlib import Path
from typing import ClassVar

import numpy as np

from bench.engines import Engine, ranking
from models.errors import InputError, absent

ALWAYS, NEVER = 0, 2**31 - 1
BLAS_FROM = (
    4  # where BLAS overtakes the scan on one AVX-512 thread at 512 dimensions (1 query: 0.27 x, 4: 1.6 x, 128: 7.8 x)
)
PER_LIST = 64  # training vectors per list; FAISS asks for 39 at least and looks at 256 at most
TRAINING_LEAST = 16_384  # enough for the quantisers where lists are few
TRAINING_FEWEST = (
    16  # the centroids of a 4-bit code: fewer vectors are repeated, with both signs, so that even one has a range
)


class FaissEngine(Engine):
    """One index in one file."""

    kind, exact = "dense", False
    file: ClassVar[str] = "index.faiss"

    @abc.abstractmethod
    def make(self, faiss, dimension: int, count: int, **knobs):
        """The empty index for `count` vectors."""

    def tune(self, found: int, **knobs) -> None:
        """Sets the search knobs on `self.index` before `found` results are asked for."""

    def training_size(self, count: int) -> int:
        """How many of `count` vectors the index is trained on."""
        return TRAINING_LEAST

    def build(self, vectors, folder, threads=1, **knobs):
        faiss = load_faiss()
        index = self.make(faiss, vectors.dimension, vectors.count, **knobs)
        if vectors.count:
            with _settings(faiss, threads, blas=True):
                if not index.is_trained:
                    index.train(training_sample(vectors, self.training_size(vectors.count)))
                for shard in vectors.shards():
                    index.add(np.ascontiguousarray(shard, np.float32))
        faiss.write_index(index, str(Path(folder) / self.file))

    def open(self, folder):
        path = Path(folder) / self.file
        try:
            self.index = load_faiss().read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: not a whole FAISS index ({str(error).splitlines()[0][:200]})") from None
        return self

    def search(self, queries, k, threads=1, *, blas_from: int = BLAS_FROM, **knobs):
        """One query is answered by one thread; a batch uses `threads`. blas_from: batch size from which BLAS is used."""
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.index.ntotal)
        if found and len(queries):
            self.tune(found, **knobs)
            with _settings(load_faiss(), threads, blas=len(queries) >= blas_from):
                best, labels = self.index.search(np.ascontiguousarray(queries, np.float32), found)
            ids[:, :found], scores[:, :found] = ranking.sort_rows(labels, best)
        return ids, scores


class FaissIvf(FaissEngine):
    """Inverted lists over the cells of a k-means, their vectors compressed; the candidates rescored from a second, finer store or not.

    Search knobs: `nprobe`, lists looked at; `rescored`, candidates taken to the finer store, where there is one. It is a number, not FAISS's
    factor of k, so that the first 10 of 100 results are the 10 that a search for 10 returns.
    """

    def training_size(self, count):
        return max(TRAINING_LEAST, PER_LIST * lists(count))

    def open(self, folder):
        super().open(folder)
        faiss = load_faiss()
        self.lists = faiss.extract_index_ivf(self.index)
        self.refines = isinstance(self.index, faiss.IndexRefine)
        return self

    def tune(self, found, *, nprobe: int = 16, rescored: int = 100, **knobs):
        self.lists.nprobe = min(
            nprobe, self.lists.nlist
        )  # beyond it FAISS's fast scan over residuals returns garbage (seen in 1.15.1)
        if self.refines:
            self.index.k_factor = max(1.0, rescored / found)


def lists(count: int) -> int:
    """Cells of the k-means for N vectors: 4 sqrt(N), FAISS's rule below a million, with at least 39 vectors to each."""
    return max(1, min(round(4 * math.sqrt(count)), count // 39))


def refined(codes: str, refine: str | None) -> str:
    """The factory string of an index with a finer store beside it ("SQ8": 8 bits a dimension, "Flat": float32) or None."""
    return codes if refine is None else f"{codes},Refine({refine})"


def training_sample(vectors, size: int, seed: int = 0) -> np.ndarray:
    """`size` of the vectors (all where there are fewer), spread evenly over all shards: (size, D) float32."""
    chosen = np.sort(np.random.default_rng(seed).choice(vectors.count, min(size, vectors.count), replace=False))
    sample, first, filled = np.empty((len(chosen), vectors.dimension), np.float32), 0, 0
    for shard in vectors.shards():
        rows = chosen[filled : np.searchsorted(chosen, first + len(shard))] - first
        sample[filled : filled + len(rows)] = shard[rows]
        first, filled = first + len(shard), filled + len(rows)
    if len(sample) < TRAINING_FEWEST:
        return np.resize(np.concatenate([sample, -sample]), (TRAINING_FEWEST, vectors.dimension))
    return sample


def load_faiss():
    """The package. Raises AbsentError."""
    try:
        import faiss
    except ImportError:
        raise absent("faiss", "cpu") from None
    return faiss


@contextlib.contextmanager
def _settings(faiss, threads: int, blas: bool):
    """FAISS at `threads` for one call. Its setting is OpenMP's, which torch may share: left behind, it would slow all that comes after."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = ALWAYS if blas else NEVER
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
