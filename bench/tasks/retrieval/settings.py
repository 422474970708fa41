"""How retrieval is measured: engines, pruning and quantising (`Setting`), and the options of a measurement."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench import engines
from bench.tasks.timing import Timing
from bench.vectors.impacts import SCALE

TOP_KS = (4, 8, 16, 32, 64, None)
MAIN_TOP_K = 32  # of the setting that tables show and examples are taken from


@dataclass(frozen=True)
class Setting:
    """An engine, the top-k lexicons of a document (None = all), and the bits of an impact (None = float32)."""

    engine: str
    top_k: int | None = None
    bits: int | None = None

    @property
    def search_knobs(self) -> dict:
        """The engine's default search knobs: the first entry of its grid."""
        return engines.grid(self.engine, "search")[0]


@dataclass(frozen=True)
class RecallOptions:
    """Options of `bench.tasks.recall.measure_recall`.

    top_k: document lexicons to measure, None = all. bits, scale: of the impacts.
    query_top_k: query lexicons; None = all, as the paper prunes documents only.
    depth: results retrieved for accuracy, at most the gallery; a first relevant item beyond it counts as depth + 1
    in the median rank. timing: None leaves rates and latencies out. examples: number of queries whose results are
    stored. rankings: store the results of every query too.
    """

    top_k: tuple[int | None, ...] = TOP_KS
    bits: int = 8
    scale: float = SCALE
    query_top_k: int | None = None
    depth: int = 1000
    timing: Timing | None = Timing()
    examples: int = 10
    hard_negatives: bool = True
    rankings: bool = False


def settings(kind: str, top_k: Sequence[int | None] = TOP_KS, bits: int = 8) -> list[Setting]:
    """The settings to measure for vectors of a kind; the first is brute force on the vectors as encoded."""
    if kind == "dense":
        return [Setting("faiss-flat")]
    pruned = [Setting("scipy", k) for k in top_k if k is not None]
    return [Setting("scipy"), *pruned, *(Setting("impact", k, bits) for k in top_k)]


def main_setting(kind: str, top_k: Sequence[int | None] = TOP_KS, bits: int = 8) -> Setting:
    """The setting that stands for a model: exact search for dense vectors, else the top k nearest to 32 at `bits`."""
    if kind == "dense":
        return Setting("faiss-flat")
    return Setting("impact", min(top_k, key=lambda k: abs((k or 1 << 30) - MAIN_TOP_K)), bits)
