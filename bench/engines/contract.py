"""The interface of a search engine: build an index, open it, search it.

Guarantees of every engine
    Order      Results are sorted by score, descending, then by id, ascending. Ids are row numbers of the indexed
               vectors.
    Padding    Fewer than k results are padded with id -1 and score -inf.
    Lexicon    Only documents that share a lexicon with the query are returned; a score of 0 is no result, as in an
               inverted index.
    Dense      Any document may be returned, whatever its score.
    Exactness  `exact` engines return the true top k (tests compare them with brute force), up to the rounding of
               float32 scores. Where an engine that calls itself exact is not, the report labels it by its measured
               overlap, not by this flag.

A new engine is one file with a subclass of `Engine` and a few lines in `grids.yaml`. The wrapped package is imported in
that file only, inside the methods that need it, by `models.errors.require`, whose error names the extra to install.
"""

import abc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from models.errors import InputError

NO_RESULT, NO_SCORE = -1, -np.inf
EMBEDDED, BY_URL = "embedded", "by URL"
SHARDED = "sharded-"
"""Prefix of an engine that is searched in shards over a Ray cluster: `sharded-impact` (`bench.engines.sharded`)."""


class Engine(abc.ABC):
    """One index: `build` writes a folder, `open` reads it in any process, `search` is then called from one thread."""

    name: ClassVar[str]
    kind: ClassVar[str]
    """Vectors that it indexes: dense, lexicon or any."""
    exact: ClassVar[bool]
    weights: ClassVar[tuple[int | None, ...]] = (None,)
    """Accepted weights of lexicon vectors: None for float32, 8 and 16 for impacts as uint8 and uint16."""
    other_modules: ClassVar[tuple[str, ...]] = ()
    """Further modules whose code decides its results; they are part of the id of its indexes."""
    compiles: ClassVar[bool] = False
    """Compiles at its first use: a small index is built and discarded before a build is timed."""
    gpus: ClassVar[int] = 0
    """Number of GPUs that it needs."""
    remote: str = ""
    """Where it runs if not in this process, whose memory and CPU time are then not recorded."""
    served: str = ""
    """EMBEDDED or BY_URL for a search server, from the environment. A build knob, so part of every record."""
    release: str = ""
    """Version of the library inside its package, where that has another; "" if not installed. A build knob too."""

    @abc.abstractmethod
    def build(self, vectors, folder: Path, threads: int = 1, **knobs) -> None:
        """Writes the index of `vectors` into the empty `folder`.

        vectors: DenseVectors, LexiconVectors or Impacts, read shard by shard (`vectors.shards()`).
        Raises InputError for vectors of another kind or dtype, AbsentError when a package is not installed.
        """

    @abc.abstractmethod
    def open(self, folder: Path) -> "Engine":
        """Opens an index for search; returns self.

        Raises InputError for a broken file, AbsentError for a missing package.
        """

    def check_impacts(self, vectors) -> None:
        """Raises InputError unless the vectors are impacts of a width in `weights`."""
        widths = [bits for bits in self.weights if bits]
        if vectors.dtype not in [np.dtype(f"uint{bits}") for bits in widths]:
            accepted = " or ".join(map(str, widths))
            raise InputError(f"{self.name}: weights are {vectors.dtype}; quantise them to {accepted} bits")

    def check_queries(self, queries, dimension: int) -> None:
        """Raises ValueError unless `queries` is a CSR array (Q, dimension) of unsigned integers."""
        if queries.dtype.kind != "u" or queries.shape[1] != dimension:
            got = f"queries of {queries.dtype} over {queries.shape[1]} lexicons"
            raise ValueError(f"{got}; expected unsigned integers over {dimension}")

    def prepare(self, queries, **knobs) -> Any:
        """Converts a batch of queries to the form that `search` takes (strings for Lucene, for example); not timed.

        queries: (Q, D) float32 array, or CSR array (Q, V) with weights of the indexed dtype. The default returns them
        unchanged.
        """
        return queries

    @abc.abstractmethod
    def search(self, queries, k: int, threads: int = 1, **knobs) -> tuple[np.ndarray, np.ndarray]:
        """The top k of each prepared query: ids (Q, k) int64, scores (Q, k) float32. Unknown knobs are ignored."""

    def bytes_on_disk(self, folder: Path) -> int | None:
        """Bytes of the files that search opens; None when a server holds them and reports no size."""
        return sum(file.stat().st_size for file in index_files(folder))

    def missing_parts(self) -> str:
        """One line on shards that no longer answer, so that results are partial; "" when results are complete."""
        return ""

    def search_metrics(self, searches: int) -> dict[str, float]:
        """Metrics of the last `searches` calls of `search` that only the engine can measure, for their record."""
        return {}

    def close(self) -> None:  # noqa: B027  (most engines hold nothing)
        """Releases files, threads and connections."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def index_files(folder: Path) -> list[Path]:
    """The files of an index, without `index.json`, its description."""
    description = Path(folder) / "index.json"
    return [file for file in sorted(Path(folder).rglob("*")) if file.is_file() and file != description]
