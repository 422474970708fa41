"""FAISS's exact inner-product index over float32 vectors: the dense yardstick.

FAISS scans query by query below a threshold and multiplies matrices (BLAS) from there on. The threshold's meaning changed between releases
(number of queries, then queries x dimension, then that per thread), so this engine does not rely on it: it sets it to "always" or "never"
before each search, by the size of the batch (`blas_from`).
"""

import contextlib
from pathlib import Path

import numpy as np

from bench.engines import Engine, needs, ranking
from models.errors import InputError

ALWAYS, NEVER = 0, 2**31 - 1
BLAS_FROM = 4  # where BLAS overtakes the scan on one AVX-512 thread at 512 dimensions (1 query: 0.27 x, 4: 1.6 x, 128: 7.8 x)


class FaissFlat(Engine):
    """IndexFlatIP. Of documents with equal float32 scores at the k-th place, FAISS chooses which one is returned."""

    name, kind, exact = "faiss-flat", "dense", True

    def build(self, vectors, folder, threads=1, **knobs):
        faiss = _faiss()
        index = faiss.IndexFlatIP(vectors.dimension)
        for shard in vectors.shards():
            index.add(np.ascontiguousarray(shard, np.float32))
        faiss.write_index(index, str(Path(folder) / "flat.faiss"))

    def open(self, folder):
        path = Path(folder) / "flat.faiss"
        try:
            self.index = _faiss().read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: not a whole FAISS index ({str(error).splitlines()[0][:200]})") from None
        return self

    def search(self, queries, k, threads=1, *, blas_from: int = BLAS_FROM, **knobs):
        """One query is scanned by one thread; a batch uses `threads`. blas_from: batch size from which BLAS is used."""
        faiss = _faiss()
        faiss.cvar.distance_compute_blas_threshold = ALWAYS if len(queries) >= blas_from else NEVER
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.index.ntotal)
        if found and len(queries):
            with _threads(faiss, threads):
                best, labels = self.index.search(np.ascontiguousarray(queries, np.float32), found)
            ids[:, :found], scores[:, :found] = ranking.sort_rows(labels, best)
        return ids, scores


@contextlib.contextmanager
def _threads(faiss, threads: int):
    """FAISS at `threads` for one search. Its setting is OpenMP's, which torch may share: left behind, it would slow all that comes after."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss():
    try:
        import faiss
    except ImportError:
        raise needs("faiss", "cpu") from None
    return faiss
