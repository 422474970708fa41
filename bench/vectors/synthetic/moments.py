"""Statistics of measured vectors from which vectors like them are drawn: no measured vector is kept.

`bootstrap` needs measured vectors. Where those must not be published, such as vectors of other people's photographs,
these statistics stand in: `sample` draws a collection from them, to which a bootstrap is fitted as to a measured one.

Notable choices
- Each entry of an item is a normal variable z = L u + sqrt(1 - |L|^2) e, with u of at most `FACTORS` values per item
  and e of its own. The u and e of a query correlate by `own` with those of its item.
- Dense vectors are mean + deviation z. Lexicon weights are s max(0, z + a), with a = ndtri(share of items that have the
  lexicon), and s such that the mean positive weight is the measured one (a Tobit model). An item keeps as many of its
  highest lexicons as a measured item has, drawn from percentiles. Its weights, by rank, become those of the mean
  measured item.
- L is the singular value decomposition of the expected z given what is measured. An absent lexicon says little about
  its z, so its row is divided by the variance of that expectation. Trap: loadings of rare lexicons then are noisy.
- Two numbers are searched for: the scale of L, for the measured mean cosine of an item to its nearest other, and `own`,
  for that of a query to its item.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy

from bench.store import config
from bench.vectors.format import to_csr
from bench.vectors.read import DenseVectors, LexiconVectors, Vectors
from bench.vectors.statistics import (
    GALLERY,
    describe,
    evenly,
    joined,
    nearest_cosine,
    normalised,
    occurrences,
    own_items,
    rows_of,
)
from models.errors import InputError
from models.files import atomic_file

PHOTOGRAPHS = Path(__file__).parent / "photographs"
CODE = ("bench.vectors.synthetic.moments",)
FORMAT = 1
OF_COMMAND = "written by `lexlip-bench synthetic statistics`"
FACTORS, PAIRS, CHUNK = 32, 4000, 1000
LARGEST = 0.97  # of |L|^2
LEAST_VARIANCE, LEAST_MARGIN = 0.05, 0.05
SEARCH_STEPS, LARGEST_SCALE = 7, 4.0
ARRAYS = ("level", "spread", "loadings", "lengths", "weights")


@dataclasses.dataclass(frozen=True)
class Moments:
    """Statistics of documents (row 0 of each array) and queries (row 1).

    level, spread (2, V): share of items that have a lexicon, and its mean weight there; of dense vectors mean and
    deviation. loadings (2, V, K) float16: L. Of lexicon vectors, lengths (2, 101): percentiles of lexicons per item;
    weights (2, 101): mean weight at each percent of an item's ranks. measured: the result of `describe`.
    """

    kind: str
    level: np.ndarray
    spread: np.ndarray
    loadings: np.ndarray
    lengths: np.ndarray
    weights: np.ndarray
    own: float
    measured: dict[str, float]

    @functools.cached_property
    def id(self) -> str:
        """Hash of the content."""
        arrays = [hashlib.sha256(np.ascontiguousarray(getattr(self, name))).hexdigest() for name in ARRAYS]
        return config.fingerprint([self.kind, self.own, self.measured, arrays])

    @property
    def dimension(self) -> int:
        """D, or V lexicons."""
        return self.level.shape[1]

    def sample(self, items: int, captioned: int, each: int, seed: int = 0) -> tuple[Vectors, Vectors]:
        """`items` documents, and `each` queries of the first `captioned`: L2-normalised vectors in memory."""
        rng = np.random.default_rng(seed)
        documents, queries = [], []
        for start in range(0, items, CHUNK):
            count = min(CHUNK, items - start)
            factors, noise = rng.normal(size=(count, self.loadings.shape[2])), rng.normal(size=(count, self.dimension))
            documents.append(self._rows(0, factors, noise, rng))
            own = np.repeat(np.arange(min(count, max(captioned - start, 0))), each)
            if len(own):
                mixed = (self._correlated(part[own], rng) for part in (factors, noise))
                queries.append(self._rows(1, *mixed, rng))
        of = LexiconVectors.of if self.kind == "lexicon" else DenseVectors.of
        ids = [f"drawn-{item:08d}" for item in range(items)]
        groups = np.repeat(ids[:captioned], each).tolist()
        queries = joined([documents[0][:0], *queries])
        return of(joined(documents), ids), of(queries, [str(row) for row in range(len(groups))], groups)

    def _correlated(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.own * values + np.sqrt(1 - self.own**2) * rng.normal(size=values.shape)

    def _rows(self, side: int, factors: np.ndarray, noise: np.ndarray, rng: np.random.Generator):
        loadings = self.loadings[side].astype(np.float64)
        z = factors @ loadings.T + noise * np.sqrt(1 - np.square(loadings).sum(axis=1))
        if self.kind == "dense":
            return normalised((self.level[side] + self.spread[side] * z).astype(np.float32))
        threshold, deviation = _tobit(self.level[side], self.spread[side])
        margin = z + threshold
        kept = np.rint(np.interp(rng.uniform(0, 100, len(z)), np.arange(101), self.lengths[side])).astype(int)
        order = np.argsort(-margin, axis=1)[:, : max(kept.max(), 1)]
        weights = np.maximum(np.take_along_axis(margin, order, 1), LEAST_MARGIN) * deviation[order]
        weights[np.arange(order.shape[1]) >= kept[:, None]] = -1.0
        order = np.take_along_axis(order, np.argsort(-weights, axis=1), 1)
        percent_NK = 100 * (np.arange(order.shape[1]) + 0.5) / np.maximum(kept[:, None], 1)
        by_rank = np.interp(percent_NK, np.arange(101), self.weights[side], right=0.0)
        rows = np.zeros_like(z, dtype=np.float32)
        np.put_along_axis(rows, order, by_rank.astype(np.float32), 1)
        return to_csr(normalised(rows))

    def save(self, path) -> None:
        """Writes a compressed `.npz` file, without pickle."""
        about = {"format": FORMAT, "kind": self.kind, "own": self.own, "measured": self.measured}
        packed = io.BytesIO()
        arrays = {name: getattr(self, name) for name in ARRAYS}
        np.savez_compressed(packed, about=np.array(json.dumps(about)), **arrays)
        with atomic_file(path) as partial:
            partial.write_bytes(packed.getvalue())

    @classmethod
    def load(cls, path) -> "Moments":
        """Reads a file written by `save`. Raises InputError if it is missing or not one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            about = json.loads(str(arrays["about"]))
            if about.pop("format") != FORMAT:
                raise ValueError("unknown format")
            return cls(**about, **{name: arrays[name] for name in ARRAYS})
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; expected statistics {OF_COMMAND}") from None
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: not statistics {OF_COMMAND} (format {FORMAT}): {error}") from None


def of_photographs(kind: str) -> Moments:
    """The statistics of Flickr8k's vectors, which come with the package: of `lexlip_words` or of `clip`."""
    return Moments.load(PHOTOGRAPHS / f"{kind}.npz")


def measure(documents: Vectors, queries: Vectors) -> Moments:
    """The statistics of L2-normalised documents and their queries; the group of a query is the id of its document.

    Raises InputError for vectors of two models, and for fewer than `FACTORS` queries of documents.
    """
    if (documents.kind, documents.dimension) != (queries.kind, queries.dimension):
        raise InputError("documents and queries: expected vectors of the same model")
    own = own_items(documents, queries)
    pairs = np.flatnonzero(own >= 0)
    if len(pairs) <= FACTORS:
        raise InputError(f"expected more than {FACTORS} queries whose groups are ids of documents")
    lexicon = documents.kind == "lexicon"
    levels, spreads, lengths, weights = zip(*(_entries(side) for side in (documents, queries)), strict=True)
    pairs = pairs[evenly(len(pairs), PAIRS)]
    rows = rows_of(documents, np.unique(own[pairs]))[np.unique(own[pairs], return_inverse=True)[1]]
    sides = [rows, rows_of(queries, pairs)]
    expected = [_expected(side, *of, lexicon) for side, *of in zip(sides, levels, spreads, strict=True)]
    both = np.concatenate(expected, axis=1)
    both -= both.mean(axis=0)
    factors = min(FACTORS, min(both.shape) - 1)
    _, scale, directions = scipy.sparse.linalg.svds(both, factors, random_state=0)
    loadings = directions.T * scale / np.sqrt(len(both))
    if lexicon:
        loadings /= np.maximum(both.var(axis=0), LEAST_VARIANCE)[:, None]
    made = Moments(
        kind=documents.kind,
        level=np.stack(levels),
        spread=np.stack(spreads),
        loadings=loadings.reshape(2, documents.dimension, factors),
        lengths=np.stack(lengths),
        weights=np.stack(weights),
        own=0.0,
        measured=describe(documents, queries),
    )
    return _searched(made)


def _entries(vectors: Vectors) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each entry its level and spread, float32 (V,); of lexicon vectors also the lengths and weights."""
    sums, squares = np.zeros(vectors.dimension), np.zeros(vectors.dimension)
    for shard in vectors.shards():
        sums += np.asarray(shard.sum(axis=0)).ravel()
        squares += np.asarray((shard * shard).sum(axis=0)).ravel()
    if vectors.kind == "dense":
        mean, none = sums / vectors.count, np.zeros(0, np.float32)
        deviation = np.sqrt(np.maximum(squares / vectors.count - mean**2, 0))
        return mean.astype(np.float32), deviation.astype(np.float32), none, none
    frequency, lengths = occurrences(vectors)
    rows = rows_of(vectors, evenly(vectors.count, PAIRS))
    strongest = [np.sort(rows.data[a:b])[::-1] for a, b in itertools.pairwise(rows.indptr) if b > a]
    weights = np.mean(
        [np.interp(np.arange(101), 100 * (np.arange(len(row)) + 0.5) / len(row), row) for row in strongest], axis=0
    )
    percentiles = np.percentile(lengths, np.arange(101))
    found = frequency / vectors.count, sums / np.maximum(frequency, 1), percentiles, weights
    return tuple(array.astype(np.float32) for array in found)


def _tobit(share: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Threshold a and deviation s: s max(0, a + z) is positive for `share` of the items, with mean `weight` there."""
    a = scipy.special.ndtri(np.clip(share.astype(np.float64), 1e-12, 1 - 1e-6))
    ratio = np.exp(-(a**2) / 2 - scipy.special.log_ndtr(a)) / np.sqrt(2 * np.pi)  # E[z | z > -a]
    return np.where(share > 0, a, -np.inf), np.where(share > 0, weight / (a + ratio), 0.0)


def _expected(rows, level: np.ndarray, spread: np.ndarray, lexicon: bool) -> np.ndarray:
    """E[z] of each entry given what is measured, (n, V)."""
    if not lexicon:
        return (rows - level) / np.maximum(spread, 1e-12)
    a, deviation = _tobit(level, spread)
    with np.errstate(over="ignore"):
        absent = -np.exp(-(a**2) / 2 - scipy.special.log_ndtr(-a)) / np.sqrt(2 * np.pi)
    weights = rows.toarray()
    present = weights / np.where(deviation > 0, deviation, 1) - np.where(np.isfinite(a), a, 0)
    return np.where(weights > 0, present, np.nan_to_num(absent, neginf=0.0))


def _searched(raw: Moments) -> Moments:
    """`raw` with the scale of its loadings and `own` at which samples are like the measured vectors."""
    items = int(min(raw.measured["items"], GALLERY))

    def scaled(scale: float) -> Moments:
        length = np.linalg.norm(raw.loadings * scale, axis=2, keepdims=True)
        loadings = raw.loadings * scale / np.maximum(length / np.sqrt(LARGEST), 1)
        return dataclasses.replace(raw, loadings=loadings.astype(np.float16))

    def near(scale: float) -> float:
        return nearest_cosine(_matrix(scaled(scale).sample(items, 0, 0)[0]))

    made = scaled(_bisected(near, raw.measured["nearest_cosine"], LARGEST_SCALE))
    captioned = min(items, CHUNK)

    def own_cosine(own: float) -> float:
        documents, queries = map(_matrix, dataclasses.replace(made, own=own).sample(captioned, captioned, 1))
        return float(np.asarray((documents * queries).sum(axis=1)).mean())

    return dataclasses.replace(made, own=_bisected(own_cosine, raw.measured["own_cosine"], 1.0))


def _bisected(value, wanted: float, largest: float) -> float:
    """The argument from 0 to `largest` at which a rising function is nearest to `wanted`, up to 1%."""
    low, high = 0.0, largest
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) < wanted else (low, middle)
    return (low + high) / 2


def _matrix(vectors: Vectors):
    return vectors.rows(0, vectors.count)
