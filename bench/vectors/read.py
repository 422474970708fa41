"""Opens vectors from disk, memory-mapped: dense ones as (N, D) float32, lexicon ones as CSR over the vocabulary.

`format` describes the files and `write` writes them. By default, opening reads every file once per process and checks
its SHA-256. Without that check, it compares names and sizes (which finds truncated files), reads row pointers, 8
bytes per lexicon vector, and maps the rest. Ids are read on first access.
"""

import abc
import bisect
import functools
import itertools
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy

from bench.vectors.format import (
    FORMAT,
    NPY_HEADER,
    PARTS,
    REMEDY,
    check_content,
    check_size,
    encode_strings,
    mapped_csr,
    to_csr,
)
from models.errors import InputError
from models.files import BrokenFileError, read_json, sha256


class Vectors(abc.ABC):
    """Base of dense and lexicon vectors: `count` items of `dimension` (D, or V lexicons) in shards.

    ids: id of each item; groups: id of each item's image (an image's own id). vocabulary: V strings, or None. folder:
    None in memory.
    """

    kind: str

    def __init__(
        self,
        shards,
        dimension: int,
        ids: Iterable[np.ndarray] | None = None,
        groups: Iterable[np.ndarray] | None = None,
        vocabulary=None,
        folder: Path | None = None,
        meta: dict | None = None,
    ):
        self._shards = list(shards)
        self._starts = [0, *itertools.accumulate(shard.shape[0] for shard in self._shards)]
        self.dimension, self.count = int(dimension), self._starts[-1]
        self._ids, self._groups = ids, groups
        self.vocabulary, self.folder, self.meta = vocabulary, folder, meta or {}

    def __len__(self) -> int:
        return self.count

    @functools.cached_property
    def ids(self) -> list[str]:
        """Ids of all items, in order; their positions if none were given."""
        return [str(i) for i in range(self.count)] if self._ids is None else _decoded(self._ids, self.count)

    @functools.cached_property
    def groups(self) -> list[str]:
        """For each item the id of its image."""
        return self.ids if self._groups is None else _decoded(self._groups, self.count)

    @functools.cached_property
    def qrels(self) -> dict[str, dict[str, float]] | None:
        """Of queries with several relevant documents: query id -> document id -> grade above 0."""
        if "qrels" not in self.meta:
            return None
        file = self.folder / "qrels.json"
        found = read_json(file, REMEDY)
        if sha256(file) != self.meta["qrels"]:
            raise BrokenFileError(f"{file}: not the qrels of these vectors (SHA-256 differs); {REMEDY}")
        return found["qrels"]

    @property
    def grouped(self) -> bool:
        """Whether the items have groups."""
        return self._groups is not None

    @property
    def dtype(self) -> np.dtype:
        """float32; for lexicon vectors in memory also uint8 or uint16."""
        return self._shards[0].dtype if self._shards else np.dtype(np.float32)

    @property
    def bytes(self) -> int:
        """Bytes on disk of the vectors with file headers, without the ids; 0 for vectors in memory."""
        return sum(self._file_bytes(shard) for shard in self._shards) if self.folder else 0

    def shards(self) -> Iterator:
        """The shards in order: float32 arrays (rows, D), or scipy CSR arrays (rows, V)."""
        return iter(self._shards)

    def rows(self, start: int, stop: int):
        """Items start..stop-1 as one array; for dense vectors a view if they are in one shard."""
        start, stop, _ = slice(start, stop).indices(self.count)
        pieces, at = [], bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._starts[at + 1])
            pieces.append(self._shards[at][start - self._starts[at] : end - self._starts[at]])
            start, at = end, at + 1
        return pieces[0] if len(pieces) == 1 else self._join(pieces)

    def gather(self, items: np.ndarray):
        """The items of these row numbers, in their order, as one array."""
        ascending = np.argsort(items, kind="stable")
        bounds = np.searchsorted(items[ascending], self._starts)
        pieces = [
            shard[items[ascending[first:last]] - start]
            for shard, start, first, last in zip(self._shards, self._starts, bounds, bounds[1:], strict=False)
            if first < last
        ]
        places = np.empty(len(items), np.int64)
        places[ascending] = np.arange(len(items))
        return self._join(pieces)[places]

    def prefix(self, count: int) -> "Vectors":
        """The first `count` items with ids and groups, as views of the memory or mapped files. Raises ValueError."""
        if not 0 <= count <= self.count:
            raise ValueError(f"prefix of {count} items: expected 0 to {self.count}")
        if count == self.count:
            return self
        whole = bisect.bisect_right(self._starts, count) - 1
        shards, rest = self._shards[:whole], count - self._starts[whole]
        if rest:
            shards.append(self._cut(self._shards[whole], rest))
        meta = self.meta and self.meta | {"count": count, "shards": self.meta["shards"][: len(shards)]}
        return type(self)(shards, self.dimension, self._ids, self._groups, self.vocabulary, self.folder, meta)

    def head(self, count: int) -> "Vectors":
        """`prefix`, or all items if there are fewer."""
        return self.prefix(min(count, self.count))

    def verify(self) -> None:
        """Reads every file and checks its SHA-256, once per process. Raises BrokenFileError for one that differs."""
        _verify(self.folder, self.meta.get("shards", []))

    @abc.abstractmethod
    def _join(self, pieces: list):
        """Concatenates arrays of rows."""

    @staticmethod
    @abc.abstractmethod
    def _cut(shard, rows: int):
        """The first rows of a shard, without a copy."""

    @staticmethod
    @abc.abstractmethod
    def _file_bytes(shard) -> int:
        """Size of a shard's files."""


class DenseVectors(Vectors):
    """(N, D) float32."""

    kind = "dense"

    @classmethod
    def of(cls, values: np.ndarray, ids=None, groups=None) -> "DenseVectors":
        """Vectors in memory."""
        values = np.ascontiguousarray(values, np.float32)
        return cls([values], values.shape[1], _in_memory(ids), _in_memory(groups))

    def to_numpy(self) -> np.ndarray:
        """All of them, (N, D) float32."""
        return self.rows(0, self.count)

    def _join(self, pieces):
        return np.concatenate([np.zeros((0, self.dimension), np.float32), *pieces])

    @staticmethod
    def _cut(shard, rows):
        return shard[:rows]

    @staticmethod
    def _file_bytes(shard):
        return shard.nbytes + NPY_HEADER


class LexiconVectors(Vectors):
    """CSR (N, V): ascending lexicons per row, positive float32 weights (in memory also unsigned integers)."""

    kind = "lexicon"

    @classmethod
    def of(cls, rows, ids=None, groups=None, vocabulary=None) -> "LexiconVectors":
        """Vectors in memory, from a dense or scipy sparse array. Raises ValueError as `to_csr`."""
        rows = to_csr(rows)
        return cls([rows], rows.shape[1], _in_memory(ids), _in_memory(groups), vocabulary)

    @property
    def most_weights(self) -> int:
        """Number of weights, without reading them; a view such as `Impacts` has at most the number of its vectors."""
        return sum(shard.nnz for shard in self._shards)

    def to_scipy(self) -> "scipy.sparse.csr_array":
        """All of them as one CSR array (N, V)."""
        return self.rows(0, self.count)

    def _join(self, pieces):
        if not pieces:
            return scipy.sparse.csr_array((0, self.dimension), dtype=np.float32)
        return scipy.sparse.vstack(pieces, format="csr")

    @staticmethod
    def _cut(shard, rows):
        end = shard.indptr[rows]
        return mapped_csr(shard.data[:end], shard.indices[:end], shard.indptr[: rows + 1], shard.shape[1])

    @staticmethod
    def _file_bytes(shard):
        row_pointer, lexicon, weight = 8, 4, 4
        return (shard.shape[0] + 1) * row_pointer + shard.nnz * (lexicon + weight) + 3 * NPY_HEADER


def open_vectors(folder, check: bool = True) -> DenseVectors | LexiconVectors:
    """Opens a folder of vectors, memory-mapped.

    check: reads and verifies every file first, once per process. Raises InputError with the name of a file that is
    missing, truncated, changed or of another shape.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of vectors")
    meta = read_json(folder / "meta.json", REMEDY)
    try:
        return _opened(folder, meta, check)
    except (
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # meta.json has no seal: of another tool or an old version
        raise InputError(f"{folder / 'meta.json'}: not a description of vectors ({error!r}); {REMEDY}") from None


def _opened(folder: Path, meta: dict, check: bool) -> DenseVectors | LexiconVectors:
    if meta.get("format") != FORMAT or meta.get("kind") not in PARTS:
        raise InputError(f"{folder / 'meta.json'}: not a description of vectors (format {FORMAT})")
    files = [shard["files"] for shard in meta["shards"]]
    for entries in files:
        for entry in entries.values():
            check_size(folder, entry)
    if check:
        _verify(folder, meta["shards"])
    ids, groups = (
        _Mapped(folder, [entries[part] for entries in files]) if meta["has"][part] else None
        for part in ("ids", "groups")
    )
    vocabulary = read_json(folder / "vocabulary.json", REMEDY) if meta["has"]["vocabulary"] else None
    if vocabulary is not None and len(vocabulary) != meta["dimension"]:
        found = f"{len(vocabulary)} strings, expected {meta['dimension']}"
        raise BrokenFileError(f"{folder / 'vocabulary.json'}: {found}; {REMEDY}")
    kind, of_kind = (DenseVectors, _dense) if meta["kind"] == "dense" else (LexiconVectors, _lexicon)
    shards = [of_kind(folder, entries, meta["dimension"]) for entries in files]
    return kind(shards, meta["dimension"], ids, groups, vocabulary, folder, meta)


def _verify(folder: Path, shards: list[dict]) -> None:
    for shard in shards:
        for entry in shard["files"].values():
            changed = check_size(folder, entry).stat().st_mtime_ns
            _verified(folder, entry["name"], entry["bytes"], entry["sha256"], changed)


@functools.lru_cache(maxsize=4096)
def _verified(folder: Path, name: str, size: int, checksum: str, changed: int) -> None:
    """Checks a file once per time of change: a command opens the same vectors several times."""
    check_content(folder, {"name": name, "bytes": size, "sha256": checksum})


def load_mapped(path) -> np.ndarray:
    """A `.npy` file, memory-mapped read-only (an empty one is read). Raises BrokenFileError."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BrokenFileError(f"{path}: missing") from None
    except (ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError) as error:  # the last two by its header
        raise BrokenFileError(f"{path}: not a valid .npy file ({error})") from None
    return loaded.view(np.ndarray)


class _Mapped:
    """Arrays of files, each mapped only while it is iterated over, so no file stays open after one read."""

    def __init__(self, folder: Path, entries: Sequence[dict]):
        self.folder, self.entries = folder, entries

    def __iter__(self) -> Iterator[np.ndarray]:
        return (_map(self.folder, entry) for entry in self.entries)


def _map(folder: Path, entry: dict) -> np.ndarray:
    path = check_size(folder, entry)
    array = load_mapped(path)
    if list(array.shape) != entry.get("shape") or array.dtype.str != entry.get("dtype"):
        expected = f"expected {entry.get('dtype')} {entry.get('shape')}"
        raise BrokenFileError(f"{path}: {array.dtype.str} {list(array.shape)}, {expected}")
    return array


def _dense(folder: Path, entries: dict, dimension: int) -> np.ndarray:
    return _map(folder, entries["values"])


def _lexicon(folder: Path, entries: dict, dimension: int) -> "scipy.sparse.csr_array":
    indptr, lexicons, weights = (_map(folder, entries[part]) for part in PARTS["lexicon"])
    if indptr[0] != 0 or indptr[-1] != len(lexicons) or len(weights) != len(lexicons):
        raise BrokenFileError(f"{folder}: the row pointers of a shard do not match its weights; {REMEDY}")
    return mapped_csr(weights, lexicons, indptr, dimension)


def _in_memory(strings: Sequence[str] | None) -> list[np.ndarray] | None:
    return None if strings is None else [encode_strings(strings)]


def _decoded(shards: Iterable[np.ndarray], count: int) -> list[str]:
    return list(itertools.islice((item.decode() for shard in shards for item in shard.tolist()), count))
