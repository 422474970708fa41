"""Synthetic vectors for collections beyond what can be encoded, fitted to measured ones: a smoothed bootstrap over measured items.

A fitted model holds a sample of the measured items (prototypes) with the nearest others of each, and all queries of those that have some. A synthetic
collection starts with the measured items that have queries, and its queries are the measured ones. Each item after them is made from a prototype A and others
drawn from the `neighbours` nearest to A:
    lexicon vectors  A and one neighbour B: for each lexicon l a toss of a hash of (seed, item, l) says whether the item has it as A has it or as B does (there
                     with its weight, or absent). So each lexicon keeps its popularity, and an item its lengths and weights; which lexicons go together
                     stays as it was, but their correlations are about half as strong, since two items are crossed.
    dense vectors    mean + s (A - mean) + (B - C) / sqrt(2), with s such that the total variance is the measured one.
L2-normalised where the measured ones are. `neighbours` is the one number that is searched for: an item is then as near to its nearest neighbour, among as many
synthetic items as were measured, as measured items are (too few neighbours repeat the prototypes, too many wash out what is alike).

A larger vocabulary V' (lexicon vectors): lexicon l of popularity rank r (from 0) becomes the block of lexicons l V'/V to (l + 1) V'/V, and each prototype has one
lexicon of the block in its place, the j-th with a chance proportional to (r V'/V + j + 1)^-a, a the measured Zipf exponent. So the popularity curve is stretched
along the ranks by V'/V at the same exponent, head included; the lexicons per item, their weights, and what a query shares with its own document stay as measured,
and what it shares with others falls.

Item i is a function of (model, seed, i) alone: any range of items can be made by itself, and is the same bytes in every run.
"""

import bisect
import dataclasses
import functools
import hashlib
import io
import json
import math
import zipfile

import numba
import numpy as np
import scipy.sparse as sp

from bench.corpora.scenes.layout import mix
from bench.store import config
from bench.tasks.timing import evenly
from bench.vectors.read import Vectors
from bench.vectors.statistics import (
    GALLERY,
    describe,
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
from models.errors import InputError
from models.files import atomic_file

FORMAT = 1
ARRAYS = ("query_of", "nearest", "ranks")
PROTOTYPES = 4096
MOST_NEIGHBOURS = 512
UNIT_ERROR = 1e-3  # of the lengths of vectors that count as L2-normalised
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
CHUNK = 512  # prototypes compared with all others at a time


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted model; measured: what `describe` says of the vectors it was fitted to."""

    documents: sp.csr_array | np.ndarray  # (P, V) CSR or (P, D) float32: the prototypes
    queries: sp.csr_array | np.ndarray  # (Q, V) or (Q, D)
    query_of: np.ndarray  # (Q,) int32 ascending: the prototype that a query belongs to, one of the first `captioned`
    nearest: np.ndarray  # (P, neighbours) int32: of each prototype the others nearest to it, nearest first
    ranks: np.ndarray  # (V,) int32: popularity rank of each lexicon from 0; empty for dense vectors
    neighbours: int
    unit: bool
    zipf: float
    measured: dict[str, float]

    @property
    def kind(self) -> str:
        return "lexicon" if sp.issparse(self.documents) else "dense"

    @property
    def dimension(self) -> int:
        return self.documents.shape[1]

    @property
    def captioned(self) -> int:
        return int(self.query_of[-1]) + 1

    @functools.cached_property
    def id(self) -> str:
        """A short SHA-256 of the content."""
        digest = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for array in self._arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[: config.ID_LENGTH]

    def save(self, path) -> None:
        """One compressed `.npz` file: no pickle, a few MB."""
        packed = io.BytesIO()
        np.savez_compressed(packed, about=np.array(json.dumps(self._about())), **self._arrays())
        with atomic_file(path) as partial:
            partial.write_bytes(packed.getvalue())

    @classmethod
    def load(cls, path) -> "Fitted":
        """Raises InputError when the file is missing or no fitted model."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            about = json.loads(str(arrays.pop("about")))
            if about.pop("format") != FORMAT:
                raise ValueError("another format")
            kind, dimension = about.pop("kind"), about.pop("dimension")
            parts = {part: _unpacked(arrays, part, kind, dimension) for part in ("documents", "queries")}
            return cls(**parts, **{name: arrays[name] for name in ARRAYS}, **about)
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such file; expected a model written by `lexlip-bench synthetic fit`"
            ) from None
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path}: not a model written by `lexlip-bench synthetic fit` (format {FORMAT}): {error}"
            ) from None

    def _about(self) -> dict:
        plain = {name: getattr(self, name) for name in ("neighbours", "unit", "zipf", "measured")}
        return plain | {"format": FORMAT, "kind": self.kind, "dimension": self.dimension}

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        for part in ("documents", "queries"):
            rows = getattr(self, part)
            of_rows = (
                {"indptr": rows.indptr, "indices": rows.indices, "data": rows.data}
                if self.kind == "lexicon"
                else {"values": rows}
            )
            arrays |= {f"{part}.{name}": array for name, array in of_rows.items()}
        return arrays


def _unpacked(arrays: dict, part: str, kind: str, dimension: int):
    if kind == "dense":
        return arrays[f"{part}.values"]
    of_rows = arrays[f"{part}.data"], arrays[f"{part}.indices"], arrays[f"{part}.indptr"]
    return _csr(*of_rows, dimension)


def fit(documents: Vectors, queries: Vectors, prototypes: int = PROTOTYPES) -> Fitted:
    """The model of measured documents and of the queries that belong to some of them. Prototypes: all documents with queries, then others evenly spaced.

    Raises InputError for vectors of two kinds or dimensions, when no document has queries, and for fewer than two prototypes.
    """
    if (documents.kind, documents.dimension) != (queries.kind, queries.dimension):
        both = f"documents are {documents.kind} of {documents.dimension}, queries {queries.kind} of {queries.dimension}"
        raise InputError(f"{both}; expected vectors of one model")
    own = own_items(documents, queries)
    captioned = np.unique(own[own >= 0])
    others = np.setdiff1d(np.arange(documents.count), captioned)
    others = others[evenly(len(others), max(0, prototypes - len(captioned)))]
    if not len(captioned) or len(captioned) + len(others) < 2:
        raise InputError("expected at least two documents, and queries whose groups are ids of some of them")
    rows = joined([rows_of(documents, captioned), rows_of(documents, others)])
    with_own = np.flatnonzero(own >= 0)
    with_own = with_own[np.argsort(own[with_own], kind="stable")]
    frequency = occurrences(documents)[0] if documents.kind == "lexicon" else np.zeros(0, np.int64)
    model = Fitted(
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
    """(P, at most MOST_NEIGHBOURS) int32: of each normalised row the other ones, by descending cosine."""
    count, found = rows.shape[0], []
    kept = min(MOST_NEIGHBOURS, count - 1)
    for start in range(0, count, CHUNK):
        cosines = products(rows[start : start + CHUNK], rows)
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        best = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
        found.append(
            np.take_along_axis(best, np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable"), 1)
        )
    return np.concatenate(found).astype(np.int32)


def _matching(model: Fitted) -> int:
    """The fewest neighbours at which as many synthetic items as were measured are no nearer to each other than those."""
    count = int(min(model.measured["items"], GALLERY))

    def near(neighbours: int) -> float:
        items = Synthetic(dataclasses.replace(model, neighbours=neighbours)).documents(0, count)
        return nearest_cosine(normalised(items))

    choices = range(1, model.nearest.shape[1] + 1)
    at = bisect.bisect_left(choices, -model.measured["nearest_cosine"], key=lambda neighbours: -near(neighbours))
    return choices[min(at, len(choices) - 1)]


class Synthetic:
    """The collection of a model. vocabulary: number of lexicons, at least the model's (None: the model's)."""

    def __init__(self, model: Fitted, seed: int = 0, vocabulary: int | None = None):
        self.model, self.seed = model, seed
        self.dimension = model.dimension if vocabulary is None else vocabulary
        if self.dimension != model.dimension and (model.kind == "dense" or self.dimension < model.dimension):
            raise InputError(
                f"vocabulary {vocabulary}: expected lexicon vectors, and at least their {model.dimension} lexicons"
            )
        self._key = np.uint64(int.from_bytes(hashlib.sha256(f"synthetic {seed}".encode()).digest()[:8], "little"))

    def documents(self, start: int, stop: int):
        """Items start..stop-1: CSR (n, V) or (n, D) float32."""
        items = np.arange(start, stop)
        measured = items < self.model.captioned
        first = np.where(measured, items, self._draw(items, 0, self.model.documents.shape[0]))
        others = [self.model.nearest[first, self._draw(items, which, self.model.neighbours)] for which in (1, 2)]
        if self.model.kind == "lexicon":
            return self._crossed(self.model.documents, items, first, np.where(measured, first, others[0]), first)
        made = np.where(measured[:, None], self.model.documents[first], self._moved(first, *others))
        return (normalised(made) if self.model.unit else made).astype(np.float32)

    def queries(self):
        """All queries, and for each the item that it belongs to."""
        if self.model.kind == "dense":
            return self.model.queries, self.model.query_of
        rows = np.arange(len(self.model.query_of))
        return self._crossed(self.model.queries, rows, rows, rows, self.model.query_of), self.model.query_of

    def _draw(self, items: np.ndarray, which: int, choices: int) -> np.ndarray:
        """A number below `choices` for each item, another for each `which`."""
        hashes = mix(self._key ^ mix(items.astype(np.uint64) * np.uint64(3) + np.uint64(which)))
        return ((hashes >> np.uint64(32)) * np.uint64(choices) >> np.uint64(32)).astype(np.int64)

    def _moved(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        rows, (centre, shrunk) = self.model.documents, self._spread
        return centre + shrunk * (rows[a] - centre) + (rows[b] - rows[c]) * np.float32(math.sqrt(0.5))

    @functools.cached_property
    def _spread(self) -> tuple[np.ndarray, np.float32]:
        """The mean of the prototypes, and how far they are drawn towards it so that the noise leaves the total variance as it was."""
        rows, places = self.model.documents, np.arange(self.model.documents.shape[0])
        b, c = (self.model.nearest[places, self._draw(places, which, self.model.neighbours)] for which in (1, 2))
        centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        noise = np.square(rows[b] - rows[c]).sum() / 2
        return centre, np.float32(math.sqrt(max(0.0, 1 - noise / np.square(rows - centre).sum())))

    def _crossed(self, source: sp.csr_array, items, a_rows, b_rows, a_prototypes) -> sp.csr_array:
        lengths = np.diff(source.indptr)
        most = int(lengths[a_rows].sum() + lengths[b_rows].sum())
        made = np.zeros(len(items) + 1, np.int64), np.empty(most, np.int32), np.empty(most, np.float32)
        b_prototypes = np.where(a_rows == b_rows, a_prototypes, b_rows)
        given = (
            source.indptr.astype(np.int64),
            source.indices.astype(np.int32, copy=False),
            source.data.astype(np.float32, copy=False),
        )
        _cross(
            self._key, items, a_rows, b_rows, a_prototypes, b_prototypes, *given, *self._blocks, self.model.unit, *made
        )
        indptr, lexicons, weights = made
        return _csr(weights[: indptr[-1]], lexicons[: indptr[-1]], indptr, self.dimension)

    @functools.cached_property
    def _blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the block of each lexicon starts (V + 1,), and the cumulative chances within the blocks (V',)."""
        before, after = self.model.dimension, self.dimension
        starts = np.arange(before + 1, dtype=np.int64) * after // before
        lexicon = np.repeat(np.arange(before), np.diff(starts))
        chances = (
            self.model.ranks[lexicon] * (after / before) + np.arange(after) - starts[lexicon] + 1.0
        ) ** -self.model.zipf
        sums = np.concatenate([[0.0], np.cumsum(chances)])
        within = (sums[1:] - sums[starts[lexicon]]) / (sums[starts[lexicon + 1]] - sums[starts[lexicon]])
        within[starts[1:] - 1] = 1.0
        return starts, within


def _csr(data, indices, indptr, dimension: int) -> sp.csr_array:
    csr = sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, dimension), copy=False)
    csr.has_sorted_indices = csr.has_canonical_format = True
    return csr


@numba.njit(cache=True, nogil=True)
def _cross(
    key,
    items,
    a_rows,
    b_rows,
    a_prototypes,
    b_prototypes,
    starts,
    lexicons,
    weights,
    blocks,
    within,
    unit,
    indptr,
    out_lexicons,
    out_weights,
):
    """For each item the lexicons of rows A and B, each from the one that its hash says; both rows are ascending, and so is the result."""
    at = 0
    for n in range(len(items)):
        here = mix(key ^ mix(np.uint64(items[n]) + GOLDEN))
        a, a_end, b, b_end = starts[a_rows[n]], starts[a_rows[n] + 1], starts[b_rows[n]], starts[b_rows[n] + 1]
        a_place, b_place = mix(np.uint64(a_prototypes[n]) + GOLDEN), mix(np.uint64(b_prototypes[n]) + GOLDEN)
        first, squares = at, 0.0
        while a < a_end or b < b_end:
            of_a = lexicons[a] if a < a_end else np.int32(blocks.size)
            of_b = lexicons[b] if b < b_end else np.int32(blocks.size)
            lexicon = min(of_a, of_b)
            from_b = mix(here ^ mix(np.uint64(lexicon))) >> np.uint64(63) != 0
            if (of_b if from_b else of_a) == lexicon:
                out_lexicons[at] = _sibling(lexicon, b_place if from_b else a_place, blocks, within)
                out_weights[at] = weights[b] if from_b else weights[a]
                squares += out_weights[at] ** 2
                at += 1
            a += of_a == lexicon
            b += of_b == lexicon
        if unit and squares > 0:
            out_weights[first:at] *= np.float32(1 / math.sqrt(squares))
        indptr[n + 1] = at


@numba.njit(cache=True)
def _sibling(lexicon, place, blocks, within):
    """The lexicon of a block that a prototype has."""
    start, stop = blocks[lexicon], blocks[lexicon + 1]
    if stop == start + 1:
        return start
    chance = (mix(place ^ mix(np.uint64(lexicon))) >> np.uint64(11)) * 2.0**-53
    return start + np.searchsorted(within[start:stop], chance, side="right")
