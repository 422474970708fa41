"""ScaNN: a tree of leaves, anisotropic 4-bit codes inside them, and the best candidates rescored from a finer store.

Source: Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", ICML 2020.

Notable choices
- The library's rules of thumb (its docs/algorithms.md): brute force below 20,000 items, no tree below 100,000, then
  about sqrt(N) leaves.
- The library takes all vectors as one array and copies it, so shards are concatenated in a scratch file and mapped.
- Builds differ slightly, even on one thread: the library draws its first leaves at random and takes no seed.
- Its wheels are for Linux; the package does not need TensorFlow.
"""

import contextlib
import math
from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import NO_RESULT, Engine
from models.errors import InputError, require
from models.files import mapped_array, read_json, write_json

BRUTE_FORCE_BELOW, TREE_FROM = 20_000, 100_000
LEAST_PER_LEAF = 50
DIMENSIONS_PER_CODE = 2
ANISOTROPIC_THRESHOLD = 0.2
TRAINING_SAMPLE = 100_000
PICKLED = "scann_docids.pkl"  # the library unpickles it; this engine never writes one


class Scann(Engine):
    """Approximate from 20,000 items, brute force below. Scores are inner products of the vectors in the finer store.

    leaves: leaves of the tree, of at least 50 items each (None: by the rule of thumb; 1: no tree). reorder: precision
    of the finer store, "int8" or "float32". Search knobs: `leaves_to_search`; `rescored`, candidates rescored from the
    finer store.
    """

    name, kind, exact = "scann", "dense", False

    def build(self, vectors, folder, threads=1, *, leaves: int | None = None, reorder: str = "int8", **knobs):
        scann, folder = require("scann", "engines"), Path(folder)
        leaves = _leaves(vectors.count) if leaves is None else min(leaves, vectors.count // LEAST_PER_LEAF)
        with _one_array(vectors, folder) as array:
            builder = scann.scann_ops_pybind.builder(array, 10, "dot_product").set_n_training_threads(threads)
            if leaves > 1:
                searched = min(leaves, 100)
                builder = builder.tree(leaves, num_leaves_to_search=searched, training_sample_size=TRAINING_SAMPLE)
            if leaves:
                builder = builder.score_ah(DIMENSIONS_PER_CODE, ANISOTROPIC_THRESHOLD, TRAINING_SAMPLE)
                builder = builder.reorder(100, scann.ReorderType[reorder.upper()])
            else:
                builder = builder.score_brute_force()
            builder.build().serialize(str(folder), relative_path=True)
        write_json(folder / "scann.json", {"count": vectors.count, "leaves": leaves})

    def open(self, folder):
        folder, self.threads = Path(folder), None
        about = read_json(folder / "scann.json")
        self.count, self.leaves = about["count"], about["leaves"]
        if (folder / PICKLED).exists():
            raise InputError(f"{folder / PICKLED}: unexpected file; build the index again (--force)")
        load_searcher = require("scann", "engines").scann_ops_pybind.load_searcher
        try:
            self.searcher = load_searcher(str(folder), assets_backcompat_shim=False)
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise InputError(f"{folder}: incomplete ScaNN index ({str(error).splitlines()[0][:200]})") from None
        return self

    def search(self, queries, k, threads=1, *, leaves_to_search: int = 100, rescored: int = 100, **knobs):
        ids, scores = ranking.empty(len(queries), k)
        found = min(k, self.count)
        if found and len(queries):
            if threads != self.threads:
                self.searcher.set_num_threads(threads)
                self.threads = threads
            rescored = max(rescored, found) if self.leaves else -1
            limits = found, rescored, min(leaves_to_search, self.leaves) if self.leaves > 1 else -1
            if len(queries) == 1:
                labels, best = (row[None] for row in self.searcher.search(queries[0], *limits))
            elif threads == 1:
                labels, best = self.searcher.search_batched(queries, *limits)
            else:
                share = math.ceil(len(queries) / threads)
                labels, best = self.searcher.search_batched_parallel(queries, *limits, batch_size=share)
            width = labels.shape[1]
            labels = np.where(np.isnan(best), NO_RESULT, labels.astype(np.int64))
            ids[:, :width], scores[:, :width] = ranking.sort_rows(labels, best)
        return ids, scores


def _leaves(count: int) -> int:
    """Leaves by the rule of thumb; 0: brute force, 1: no tree."""
    return 0 if count < BRUTE_FORCE_BELOW else 1 if count < TREE_FROM else round(math.sqrt(count))


@contextlib.contextmanager
def _one_array(vectors, folder: Path):
    """All vectors as one (N, D) float32 array; several shards are copied to a scratch file, which is mapped."""
    shards = list(vectors.shards())
    if len(shards) == 1:
        yield np.ascontiguousarray(shards[0], np.float32)
        return
    path, first = folder / "vectors.npy", 0
    array = mapped_array(path, np.float32, (vectors.count, vectors.dimension))
    for shard in shards:
        array[first : first + len(shard)] = shard
        first += len(shard)
    try:
        yield array
    finally:
        path.unlink()
