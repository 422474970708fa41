"""All FAISS indexes: an inner-product index that `grids.yaml` describes by its index-factory string.

Each entry has `settings`: `index`, the factory string with placeholders; `exact`; `gpus: 1` for an index that is
searched on a GPU. Placeholders: {dimension}, {lists} (cells of the k-means), {m} (neighbours of a graph's node),
{codes} (D / per_code), {reduce} (to fewer dimensions, or nothing) and {reduced} (how many), {refine} (a finer store of
all dimensions beside the codes, or nothing).

Build knobs
    m, ef_construction   HNSW: neighbours per node (twice that at the bottom), candidates kept while inserting
    per_code             product quantisation: dimensions per code; must divide D
    dimensions           {reduce}: dimensions n that candidates are found by; vectors of at most n keep all of theirs
    reduction            {reduce}: "pca", the n axes on which products vary most, or "prefix", the first n dimensions,
                         normalised again, for models that learnt them to search alone (Matryoshka, `clip_mrl`)
    refine               finer store from which candidates are rescored: "SQ8" (8 bits a dimension), "Flat" (float32) or
                         None
Search knobs
    ef          HNSW: candidates kept while searching, at least the number of results; `refine` rescores all of them
    nprobe      IVF: lists scanned
    rescored    IVF and LSH with a finer store: candidates rescored. A number, not FAISS's factor of k, so that the
                first 10 of 100 results are the 10 that a search for 10 returns
    blas_from   batch size from which queries are compared by BLAS

Bytes of an item: Flat 4 D; HNSW 4 D (SQ8: D) and about 8 m; IVF 8 for the id, and SQ8 D, PQ D / (2 per_code) at 4 bits
or D / per_code at 8, RaBitQ D / 8 + 8; LSH D / 8; n for D behind {reduce}. `refine` adds D (SQ8) or 4 D (Flat).

Notable choices
- `fs` in a factory string is FAISS's fast scan: 4-bit codes are looked up inside registers. `r` encodes the residual to
  the cell's centre, which is shorter than the vector, so that the same bits say more of it. `np` leaves the polysemous
  training out, which takes five times as long and serves a filter that is not used here.
- RaBitQ: one bit a dimension after a random rotation (Gao and Long, SIGMOD 2024). Unrefined scores are estimates from
  single bits.
- {reduce} by PCA keeps products, not distances: its axes are those of second moments, without a mean. FAISS's own PCA
  subtracts the mean of the items, which changes the order of products. RaBitQ needs a random rotation after it, because
  the first axes hold most of the weight.
- LSH: the sign of each dimension, one bit; every query is compared with all codes, by Hamming distance. A random
  rotation or learned thresholds before it changed recall by at most 0.02 over 100,000 scenes.
- Of documents with equal float32 scores at the k-th place, a Flat index chooses which one it returns.
- An HNSW graph built on one thread is always the same; on several, it depends on the order in which threads insert.
- A GPU index is built and stored on the CPU and copied to the first GPU when opened. FAISS has neither fast scan nor
  refinement there, so its codes have 8 bits; it returns at most 2,048 results. Without a GPU the engine is absent, as
  without its package.
- Training sees a sample, drawn without replacement over all shards with a fixed seed. Beside it, memory holds one shard
  and the index.
- FAISS compares queries with vectors or centroids one by one below a threshold, and by BLAS from it. The unit of the
  threshold changed between releases (queries, queries x dimension, per thread), so it is set to "always" or "never"
  before each call, by the batch size.
- Indexes are read into memory; FAISS's memory maps (`IO_FLAG_MMAP`) are not used.
"""

import contextlib
import math
from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine
from models.errors import InputError, absent, require

FILE = "index.faiss"
ALWAYS, NEVER = 0, 2**31 - 1
BLAS_FROM = 4  # speedup of BLAS on one AVX-512 thread at 512 dimensions: 0.27x for 1 query, 1.6x for 4, 7.8x for 128
PER_LIST = 64  # training vectors per list; FAISS wants at least 39 and uses at most 256
TRAINING_LEAST = 16_384  # enough for the quantisers where lists are few
REDUCTIONS = {"pca": "", "prefix": "L2norm,"}  # what follows the linear map in the factory string
TRAINING_FEWEST = 16  # centroids of a 4-bit code; fewer vectors are repeated with both signs


class FaissIndex(Engine):
    """One FAISS index in one file. `settings` and knobs: see the module."""

    kind = "dense"

    def __init__(self, name: str, index: str, defaults: dict, exact: bool = False, gpus: int = 0):
        self.name, self.factory, self.defaults, self.exact, self.gpus = name, index, defaults, exact, gpus

    def build(self, vectors, folder, threads=1, **knobs):
        faiss = self._faiss()
        knobs = self.defaults | knobs
        index = self._empty_index(faiss, vectors.dimension, vectors.count, **knobs)
        if vectors.count:
            with _one_call(faiss, threads, blas=True):
                if not index.is_trained:
                    sample = training_sample(vectors, max(TRAINING_LEAST, PER_LIST * lists(vectors.count)))
                    _set_axes(faiss, index, sample, knobs.get("reduction"))
                    index.train(sample)
                for shard in vectors.shards():
                    index.add(np.ascontiguousarray(shard, np.float32))
        faiss.write_index(index, str(Path(folder) / FILE))

    def _empty_index(
        self,
        faiss,
        dimension: int,
        count: int,
        *,
        m=0,
        ef_construction=0,
        per_code=1,
        dimensions=None,
        reduction=None,
        refine=None,
        **_,
    ):
        if dimension % per_code:
            raise InputError(f"per_code {per_code}: expected a divisor of the {dimension} dimensions")
        if reduction not in (None, *REDUCTIONS):
            raise InputError(f"reduction {reduction}: expected {' or '.join(REDUCTIONS)}")
        if dimensions is not None and dimensions < 1:
            raise InputError(f"dimensions {dimensions}: expected at least 1")
        reduced = min(dimensions or dimension, dimension)
        factory = self.factory.format(
            dimension=dimension,
            lists=lists(count),
            m=m,
            codes=dimension // per_code,
            reduce=f"PCA{reduced},{REDUCTIONS[reduction]}" if reduced < dimension else "",
            reduced=reduced,
            refine=f",Refine({refine})" if refine else "",
        )
        signs = factory.startswith("LSH")
        index = faiss.index_factory(dimension, factory, faiss.METRIC_L2 if signs else faiss.METRIC_INNER_PRODUCT)
        if signs:  # FAISS makes them for L2 only; their candidates are the same, and the rescoring reads the metric
            for part in (index, index.base_index, index.refine_index):
                part.metric_type = faiss.METRIC_INNER_PRODUCT
        if graph := _graph(faiss, index):
            graph.efConstruction = ef_construction
        return index

    def open(self, folder):
        faiss, path = self._faiss(), Path(folder) / FILE
        try:
            self.index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: incomplete FAISS index ({str(error).splitlines()[0][:200]})") from None
        self.graph = _graph(faiss, self.index)
        self.lists = faiss.try_extract_index_ivf(self.index)
        self.refines = isinstance(self.index, faiss.IndexRefine)
        if self.gpus:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = not self.exact  # lookup tables of 64 codes fit a GPU's shared memory only as float16
            self.resources = faiss.StandardGpuResources()  # must outlive the index
            self.index = faiss.index_cpu_to_gpu(self.resources, 0, self.index, options)
            self.lists = self.lists and self.index
        return self

    def search(self, queries, k, threads=1, *, blas_from: int = BLAS_FROM, **knobs):
        """One query is answered by one thread, a batch by `threads`."""
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.index.ntotal)
        if found and len(queries):
            self._set_knobs(found, **knobs)
            with _one_call(self._faiss(), threads, blas=len(queries) >= blas_from):
                best, labels = self.index.search(np.ascontiguousarray(queries, np.float32), found)
            ids[:, :found], scores[:, :found] = ranking.sort_rows(labels, best)
        return ids, scores

    def _set_knobs(self, found: int, *, ef: int = 64, nprobe: int = 16, rescored: int = 100, **_) -> None:
        if self.graph:
            self.graph.efSearch = max(ef, found)
        if self.lists:  # beyond nlist, fast scan over residuals returns garbage (seen in 1.15.1)
            self.lists.nprobe = min(nprobe, self.lists.nlist)
        if self.refines:  # beyond all items, sign codes return garbage (seen in 1.15.1)
            candidates = min(ef if self.graph else rescored, self.index.ntotal)
            self.index.k_factor = max(1.0, candidates / found)

    def _faiss(self):
        faiss = require("faiss", "gpu" if self.gpus else "cpu")
        if self.gpus and not faiss.get_num_gpus():
            raise absent("faiss with a GPU", "gpu")
        return faiss


def _set_axes(faiss, index, sample: np.ndarray, reduction: str | None) -> None:
    """Sets the linear map of {reduce}, in place of FAISS's own training; nothing for an index without one."""
    whole = _unrefined(faiss, index)
    if isinstance(whole, faiss.IndexPreTransform):
        map_ = faiss.downcast_VectorTransform(whole.chain.at(0))
        if isinstance(map_, faiss.PCAMatrix):
            faiss.copy_array_to_vector(axes(sample, map_.d_out, reduction).ravel(), map_.A)
            map_.have_bias, map_.is_orthonormal, map_.is_trained = False, True, True


def _graph(faiss, index):
    """The HNSW graph inside an index, which owns it; None without one."""
    inner = _unrefined(faiss, index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return inner.hnsw if isinstance(inner, faiss.IndexHNSW) else None


def _unrefined(faiss, index):
    return faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index


def axes(sample: np.ndarray, count: int, reduction: str) -> np.ndarray:
    """Orthonormal rows (count, D) float32. sample: (N, D)."""
    if reduction == "prefix":
        return np.eye(count, sample.shape[1], dtype=np.float32)
    _, ascending = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(ascending[:, ::-1][:, :count].T, np.float32)


def lists(count: int) -> int:
    """Cells of the k-means for `count` vectors: 4 sqrt(N), FAISS's rule below a million, of at least 39 vectors."""
    return max(1, min(round(4 * math.sqrt(count)), count // 39))


def training_sample(vectors, size: int, seed: int = 0) -> np.ndarray:
    """`size` of the vectors (all if there are fewer), drawn over all shards: (size, D) float32, in order of ids."""
    chosen = np.sort(np.random.default_rng(seed).choice(vectors.count, min(size, vectors.count), replace=False))
    sample, first, filled = np.empty((len(chosen), vectors.dimension), np.float32), 0, 0
    for shard in vectors.shards():
        rows = chosen[filled : np.searchsorted(chosen, first + len(shard))] - first
        sample[filled : filled + len(rows)] = shard[rows]
        first, filled = first + len(shard), filled + len(rows)
    if len(sample) < TRAINING_FEWEST:
        return np.resize(np.concatenate([sample, -sample]), (TRAINING_FEWEST, vectors.dimension))
    return sample


@contextlib.contextmanager
def _one_call(faiss, threads: int, blas: bool):
    """Sets threads and BLAS for one call. The threads are OpenMP's, which torch may share, so they are restored."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = ALWAYS if blas else NEVER
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
