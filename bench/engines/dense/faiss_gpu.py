"""FAISS on a GPU: indexes are built and stored as on a CPU, and copied to the first GPU when they are opened.

FAISS has neither fast scan nor refinement on a GPU, so `faiss-ivf-pq-gpu` has 8-bit codes, of 8 dimensions each, and no finer store.
Absent, as a package would be, where FAISS sees no GPU.
"""

from bench.engines.dense.faiss_common import FaissEngine, FaissIvf, lists, load_faiss
from bench.engines.dense.faiss_flat import FaissFlat
from bench.engines.dense.faiss_ivf_pq import codes
from models.errors import absent


class OnGpu(FaissEngine):
    """Reads the index and copies it to the GPU, which returns at most 2,048 results."""

    def build(self, vectors, folder, threads=1, **knobs):
        _gpu_faiss()
        super().build(vectors, folder, threads, **knobs)

    def open(self, folder):
        faiss = _gpu_faiss()
        super().open(folder)
        options = faiss.GpuClonerOptions()
        options.useFloat16 = not self.exact  # the lookup tables of 64 codes fit a GPU's shared memory only as float16
        self.resources = faiss.StandardGpuResources()  # must outlive the index
        self.index = self.lists = faiss.index_cpu_to_gpu(self.resources, 0, self.index, options)
        return self


class FaissFlatGpu(OnGpu, FaissFlat):
    name = "faiss-flat-gpu"


class FaissIvfPqGpu(OnGpu, FaissIvf):
    """`PQnp`: without the polysemous training, which takes five times as long and serves a filter that is not used here."""

    name = "faiss-ivf-pq-gpu"

    def make(self, faiss, dimension, count, *, per_code: int = 8, **knobs):
        return faiss.index_factory(
            dimension, f"IVF{lists(count)},PQ{codes(dimension, per_code)}np", faiss.METRIC_INNER_PRODUCT
        )


def _gpu_faiss():
    faiss = load_faiss()
    if not faiss.get_num_gpus():
        raise absent("faiss with a GPU", "gpu")
    return faiss
