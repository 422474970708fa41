"""Fits a smoothed bootstrap to measured vectors, to generate collections larger than can be encoded (`synthetic:N`).

A fitted model holds a sample of the measured items (prototypes) with the nearest others of each, and all queries that
belong to a prototype. A synthetic collection starts with the measured items that have queries, and its queries are
the measured ones. Every later item is made from a prototype A and others drawn from its `neighbours` nearest:
- Lexicon vectors: A is crossed with one neighbour B. A hash of (seed, item, l) decides for each lexicon l whether the
  item has it as A does or as B does (with that weight, or not at all). So each lexicon keeps its popularity, and
  items keep their lengths and weights. Trap: correlations between lexicons are about half as strong as measured,
  because two items are crossed.
- Dense vectors: mean + s (A - mean) + (B - C) / sqrt(2), with s such that the total variance is the measured one.
Items are L2-normalised if the measured ones are. `neighbours` is the only number searched for: the smallest at which
the mean cosine of an item to its nearest neighbour is not above the measured one. With too few neighbours, items
repeat the prototypes; with too many, similar items become dissimilar.

A larger vocabulary V' (lexicon vectors): lexicon l of popularity rank r (from 0) becomes the block of lexicons l V'/V
to (l + 1) V'/V. Each prototype has one lexicon of the block in its place, the j-th with probability proportional to
(r V'/V + j + 1)^-a, with a the measured Zipf exponent. So the popularity curve is stretched along the ranks by V'/V
at the same exponent. Lexicons per item, weights, and the overlap of a query with its own document stay as measured;
the overlap with other documents falls.
"""

import bisect
import dataclasses
import functools
import hashlib
import io
import json
import zipfile
import zlib

import numpy as np
import scipy

from bench.store import config
from bench.vectors.format import sorted_csr
from bench.vectors.read import Vectors
from bench.vectors.statistics import (
    GALLERY,
    describe,
    evenly,
    joined,
    lengths_of,
    nearest_cosine,
    normalised,
    occurrences,
    own_items,
    products,
    rows_of,
    zipf_exponent,
)
from bench.vectors.synthetic import generate
from models.errors import InputError
from models.files import atomic_file

CODE = ("bench.vectors.synthetic.bootstrap", *generate.CODE)
FORMAT = 1
OF_COMMAND = "written by `lexlip-bench synthetic fit`"
ARRAYS = ("query_of", "nearest", "ranks")
PROTOTYPES = 4096
MAX_NEIGHBOURS = 512
UNIT_ERROR = 1e-3  # largest deviation from length 1 of vectors treated as L2-normalised
CHUNK = 512  # prototypes compared with all others at a time


@dataclasses.dataclass(frozen=True)
class BootstrapModel:
    """A fitted model. measured: the result of `describe` for the vectors it was fitted to."""

    documents: "scipy.sparse.csr_array | np.ndarray"  # (P, V) CSR or (P, D) float32: the prototypes
    queries: "scipy.sparse.csr_array | np.ndarray"  # (Q, V) or (Q, D)
    query_of: np.ndarray  # (Q,) int32 ascending: prototype of each query, one of the first `captioned`
    nearest: np.ndarray  # (P, neighbours) int32: the nearest other prototypes, nearest first
    ranks: np.ndarray  # (V,) int32: popularity rank of each lexicon from 0; empty for dense vectors
    neighbours: int
    unit: bool
    zipf: float
    measured: dict[str, float]

    @property
    def kind(self) -> str:
        """The kind of the vectors, "dense" or "lexicon"."""
        return "lexicon" if scipy.sparse.issparse(self.documents) else "dense"

    @property
    def dimension(self) -> int:
        """D, or V lexicons."""
        return self.documents.shape[1]

    @property
    def captioned(self) -> int:
        """Number of prototypes with queries; they come first."""
        return int(self.query_of[-1]) + 1

    @functools.cached_property
    def id(self) -> str:
        """Hash of the content."""
        digest = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for array in self._arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[: config.ID_LENGTH]

    def save(self, path) -> None:
        """Writes a compressed `.npz` file of a few MB, without pickle."""
        packed = io.BytesIO()
        np.savez_compressed(packed, about=np.array(json.dumps(self._about())), **self._arrays())
        with atomic_file(path) as partial:
            partial.write_bytes(packed.getvalue())

    @classmethod
    def load(cls, path) -> "BootstrapModel":
        """Reads a file written by `save`. Raises InputError if it is missing or not one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            about = json.loads(str(arrays.pop("about")))
            if about.pop("format") != FORMAT:
                raise ValueError("unknown format")
            kind, dimension = about.pop("kind"), about.pop("dimension")
            parts = {part: _unpacked(arrays, part, kind, dimension) for part in ("documents", "queries")}
            return cls(**parts, **{name: arrays[name] for name in ARRAYS}, **about)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; expected a model {OF_COMMAND}") from None
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: not a model {OF_COMMAND} (format {FORMAT}): {error}") from None

    def _about(self) -> dict:
        plain = {name: getattr(self, name) for name in ("neighbours", "unit", "zipf", "measured")}
        return plain | {"format": FORMAT, "kind": self.kind, "dimension": self.dimension}

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        for part in ("documents", "queries"):
            rows = getattr(self, part)
            names = ("indptr", "indices", "data") if self.kind == "lexicon" else ()
            of_rows = {name: getattr(rows, name) for name in names} or {"values": rows}
            arrays |= {f"{part}.{name}": array for name, array in of_rows.items()}
        return arrays


def _unpacked(arrays: dict, part: str, kind: str, dimension: int):
    if kind == "dense":
        return arrays[f"{part}.values"]
    of_rows = arrays[f"{part}.data"], arrays[f"{part}.indices"], arrays[f"{part}.indptr"]
    return sorted_csr(*of_rows, dimension)


def fit(documents: Vectors, queries: Vectors, prototypes: int = PROTOTYPES) -> BootstrapModel:
    """Fits a model to measured documents and their queries. The group of a query is the id of its document.

    Prototypes are all documents with queries, then others evenly spaced. Raises InputError for vectors of two kinds
    or dimensions, if no document has queries, and for fewer than two prototypes.
    """
    if (documents.kind, documents.dimension) != (queries.kind, queries.dimension):
        both = f"documents are {documents.kind} of {documents.dimension}, queries {queries.kind} of {queries.dimension}"
        raise InputError(f"{both}; expected vectors of the same model")
    own = own_items(documents, queries)
    captioned = np.unique(own[own >= 0])
    others = np.setdiff1d(np.arange(documents.count), captioned)
    others = others[evenly(len(others), max(0, prototypes - len(captioned)))]
    if not len(captioned) or len(captioned) + len(others) < 2:
        raise InputError("expected at least two documents, and queries whose groups are ids of documents")
    rows = joined([rows_of(documents, captioned), rows_of(documents, others)])
    with_own = np.flatnonzero(own >= 0)
    with_own = with_own[np.argsort(own[with_own], kind="stable")]
    frequency = occurrences(documents)[0] if documents.kind == "lexicon" else np.zeros(0, np.int64)
    model = BootstrapModel(
        documents=rows,
        queries=queries.rows(0, queries.count)[with_own],
        query_of=np.searchsorted(captioned, own[with_own]).astype(np.int32),
        nearest=_nearest_others(normalised(rows)),
        ranks=np.argsort(np.argsort(-frequency, kind="stable")).astype(np.int32),
        neighbours=1,
        unit=bool(np.abs(lengths_of(rows) - 1).max() < UNIT_ERROR),
        zipf=zipf_exponent(frequency),
        measured=describe(documents, queries),
    )
    neighbours = _matching(model)
    return dataclasses.replace(
        model, neighbours=neighbours, nearest=np.ascontiguousarray(model.nearest[:, :neighbours])
    )


def _nearest_others(rows) -> np.ndarray:
    """The nearest other rows of each normalised row, nearest first: int32 (P, at most MAX_NEIGHBOURS)."""
    count, found = rows.shape[0], []
    neighbours = min(MAX_NEIGHBOURS, count - 1)
    for start in range(0, count, CHUNK):
        cosines = products(rows[start : start + CHUNK], rows)
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        best = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
        order = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found).astype(np.int32)


def _matching(model: BootstrapModel) -> int:
    """The smallest number of neighbours at which synthetic items are not nearer to each other than measured ones."""
    count = int(min(model.measured["items"], GALLERY))

    def near(neighbours: int) -> float:
        items = generate.SyntheticVectors(dataclasses.replace(model, neighbours=neighbours)).documents(0, count)
        return nearest_cosine(normalised(items))

    choices = range(1, model.nearest.shape[1] + 1)
    at = bisect.bisect_left(choices, -model.measured["nearest_cosine"], key=lambda neighbours: -near(neighbours))
    return choices[min(at, len(choices) - 1)]
