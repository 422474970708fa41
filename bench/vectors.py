"""Vectors on disk: dense ones as (N, D) float32, lexicon ones as CSR over the vocabulary; written by streaming, opened without reading.

A folder of vectors holds `.npy` shards, the ids of the items beside them, and `meta.json` with the shape, dtype, size and SHA-256 of every
shard. It is written under a temporary name and renamed when whole. Opening checks names and sizes (so a truncated shard is refused at
once); `verify()` reads everything and checks the hashes.
"""

import bisect
import contextlib
import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.files import atomic_folder, read_json, sha256
from models.errors import InputError

FORMAT = 1
SHARD_ROWS = 65_536
PARTS = {"dense": ("values",), "lexicon": ("indptr", "lexicons", "weights")}


class Vectors:
    """What dense and lexicon vectors share. `count` items of `dimension` (D, or V lexicons) in shards.

    ids: id of each item; groups: id of the image each item belongs to (its own for an image). vocabulary: V strings or None.
    """

    kind: str

    def __init__(
        self, shards, dimension: int, ids=None, groups=None, vocabulary=None, folder: Path | None = None, meta: dict | None = None
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
        """Ids of all items, in order; their numbers where none were given."""
        return [str(i) for i in range(self.count)] if self._ids is None else _decode(self._ids)

    @functools.cached_property
    def groups(self) -> list[str]:
        """For each item the id of the image it belongs to."""
        return self.ids if self._groups is None else _decode(self._groups)

    @property
    def dtype(self) -> np.dtype:
        """float32; for lexicon vectors in memory also uint8 or uint16."""
        return self._shards[0].dtype if self._shards else np.dtype(np.float32)

    @property
    def bytes(self) -> int:
        """Bytes on disk of the vectors (not of the ids); 0 when they are in memory only."""
        files = (file for shard in self.meta.get("shards", []) for file in shard["files"].items())
        return sum(entry["bytes"] for part, entry in files if part in PARTS[self.kind])

    def shards(self) -> Iterator:
        """The shards in order: float32 arrays (rows, D), or scipy CSR arrays (rows, V)."""
        return iter(self._shards)

    def rows(self, start: int, stop: int):
        """Items start..stop as one array; a view where they lie in one shard."""
        start, stop, _ = slice(start, stop).indices(self.count)
        pieces, at = [], bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._starts[at + 1])
            pieces.append(self._shards[at][start - self._starts[at] : end - self._starts[at]])
            start, at = end, at + 1
        return pieces[0] if len(pieces) == 1 else self._join(pieces)

    def head(self, count: int) -> "Vectors":
        """The first `count` items, in memory."""
        return type(self).of(self.rows(0, count))

    def verify(self) -> None:
        """Reads every file and compares its SHA-256. Raises InputError that names the first one that differs."""
        for shard in self.meta.get("shards", []):
            for entry in shard["files"].values():
                if sha256(self.folder / entry["name"]) != entry["sha256"]:
                    raise InputError(
                        f"{self.folder / entry['name']}: its content has changed since it was written; encode it again (--force)"
                    )

    def _join(self, pieces: list):
        raise NotImplementedError


class DenseVectors(Vectors):
    """(N, D) float32."""

    kind = "dense"

    @classmethod
    def of(cls, values: np.ndarray, ids=None, groups=None) -> "DenseVectors":
        """Vectors in memory."""
        values = np.ascontiguousarray(values, np.float32)
        return cls([values], values.shape[1], _encode(ids), _encode(groups))

    def to_numpy(self) -> np.ndarray:
        """All of them, (N, D) float32."""
        return self.rows(0, self.count)

    def _join(self, pieces):
        return np.concatenate([np.zeros((0, self.dimension), np.float32), *pieces])


class LexiconVectors(Vectors):
    """CSR (N, V): lexicons of a row ascending, weights positive float32 (or unsigned integers in memory)."""

    kind = "lexicon"

    @classmethod
    def of(cls, rows, ids=None, groups=None, vocabulary=None) -> "LexiconVectors":
        """Vectors in memory, from a dense array or any scipy sparse one."""
        rows = to_csr(rows)
        return cls([rows], rows.shape[1], _encode(ids), _encode(groups), vocabulary)

    def to_scipy(self) -> sp.csr_array:
        """All of them as one CSR array (N, V)."""
        return self.rows(0, self.count)

    def _join(self, pieces):
        if not pieces:
            return sp.csr_array((0, self.dimension), dtype=np.float32)
        return sp.vstack(pieces, format="csr")


def to_csr(rows) -> sp.csr_array:
    """A dense or sparse matrix as CSR with sorted lexicons and zeros dropped. Raises ValueError for a negative or non-finite weight."""
    csr = sp.csr_array(rows)
    if csr.dtype.kind != "u":
        csr = csr.astype(np.float32, copy=False)
    if csr.nnz and not (np.isfinite(csr.data).all() and csr.data.min() >= 0):
        raise ValueError("lexicon weights must be finite and not negative")
    if csr.nnz and not csr.data.all():
        csr = csr.copy()
        csr.eliminate_zeros()
    csr.sum_duplicates()
    return csr


def open_vectors(folder) -> DenseVectors | LexiconVectors:
    """Opens a folder of vectors, memory-mapped. Raises InputError that names what is missing, truncated or of another shape."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of vectors")
    meta = read_json(folder / "meta.json")
    if meta.get("format") != FORMAT or meta.get("kind") not in PARTS:
        raise InputError(f"{folder / 'meta.json'}: not the description of vectors (format {FORMAT})")
    opened = [{part: _map(folder, entry) for part, entry in shard["files"].items()} for shard in meta["shards"]]
    dimension = meta["dimension"]
    ids, groups = ([shard[part] for shard in opened] if meta["has"][part] else None for part in ("ids", "groups"))
    vocabulary = read_json(folder / "vocabulary.json") if meta["has"]["vocabulary"] else None
    if meta["kind"] == "dense":
        return DenseVectors([shard["values"] for shard in opened], dimension, ids, groups, vocabulary, folder, meta)
    shards = [_csr(folder, shard, dimension) for shard in opened]
    return LexiconVectors(shards, dimension, ids, groups, vocabulary, folder, meta)


@contextlib.contextmanager
def write_vectors(folder, kind: str, dimension: int, vocabulary: Sequence[str] | None = None, made_from=None, shard_rows: int = SHARD_ROWS):
    """Yields a writer whose `append(batch, ids, groups=None)` streams items to `folder`; the folder appears when the block ends.

    batch: (B, dimension) float32 array, or scipy sparse for lexicon vectors. made_from: plain values kept in meta.json, saying what the
    vectors were made from. Memory stays at one shard, whatever the number of items. Raises InputError when a vector is not finite.
    """
    with atomic_folder(folder) as partial:
        writer = VectorsWriter(partial, kind, dimension, shard_rows)
        yield writer
        writer.close(vocabulary, made_from)


class VectorsWriter:
    """Cuts what is appended into shards of exactly `shard_rows` rows, whatever the size of the batches."""

    def __init__(self, folder: Path, kind: str, dimension: int, shard_rows: int):
        if kind not in PARTS:
            raise ValueError(f"kind '{kind}': expected dense or lexicon")
        self.folder, self.kind, self.dimension, self.shard_rows = folder, kind, dimension, shard_rows
        self._batches, self._ids, self._groups = [], [], []
        self._shards, self._grouped = [], None

    def append(self, batch, ids: Sequence[str], groups: Sequence[str] | None = None) -> None:
        """Adds B items."""
        if batch.shape != (len(ids), self.dimension) or (groups is not None and len(groups) != len(ids)):
            raise ValueError(f"a batch of shape {batch.shape} with {len(ids)} ids; expected ({len(ids)}, {self.dimension})")
        if self._grouped not in (None, groups is not None):
            raise ValueError("either all batches have groups or none has")
        self._grouped = groups is not None
        values = batch.data if sp.issparse(batch) else batch
        if not np.isfinite(values).all():
            broken = int(np.argmin(np.isfinite(batch.sum(axis=1))))
            raise InputError(f"the vector of item '{ids[broken]}' is not finite: the checkpoint is broken")
        self._batches.append(to_csr(batch) if self.kind == "lexicon" else np.asarray(batch, np.float32))
        self._ids += map(str, ids)
        self._groups += map(str, groups or ())
        while len(self._ids) >= self.shard_rows:
            self._flush(self.shard_rows)

    def close(self, vocabulary: Sequence[str] | None, made_from) -> None:
        """Writes the last shard and meta.json."""
        if self._ids:
            self._flush(len(self._ids))
        has = {"ids": True, "groups": bool(self._grouped), "vocabulary": vocabulary is not None}
        if vocabulary is not None:
            if len(vocabulary) != self.dimension:
                raise ValueError(f"a vocabulary of {len(vocabulary)} for {self.dimension} lexicons")
            (self.folder / "vocabulary.json").write_text(json.dumps(list(vocabulary)), encoding="utf-8")
        meta = {
            "format": FORMAT,
            "kind": self.kind,
            "dimension": self.dimension,
            "has": has,
            "made_from": made_from,
            "shards": self._shards,
        }
        meta["count"] = sum(shard["count"] for shard in self._shards)
        (self.folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _flush(self, count: int) -> None:
        stack = sp.vstack if self.kind == "lexicon" else np.concatenate
        rows = stack(self._batches)
        rows, rest = (rows.tocsr()[:count], rows.tocsr()[count:]) if self.kind == "lexicon" else (rows[:count], rows[count:])
        parts = _parts(rows) | {"ids": _encode(self._ids[:count])[0]}
        if self._grouped:
            parts["groups"] = _encode(self._groups[:count])[0]
        self._shards.append({"count": count, "files": {part: self._save(part, values) for part, values in parts.items()}})
        self._batches, self._ids, self._groups = [rest], self._ids[count:], self._groups[count:]

    def _save(self, part: str, values: np.ndarray) -> dict:
        path = self.folder / f"{len(self._shards):05d}.{part}.npy"
        np.save(path, values, allow_pickle=False)
        described = {"name": path.name, "shape": list(values.shape), "dtype": values.dtype.str}
        return described | {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _parts(rows) -> dict[str, np.ndarray]:
    if isinstance(rows, np.ndarray):
        return {"values": rows.astype(np.float32, copy=False)}
    indptr, lexicons = rows.indptr.astype(np.int64), rows.indices.astype(np.int32, copy=False)
    return {"indptr": indptr, "lexicons": lexicons, "weights": rows.data.astype(np.float32, copy=False)}


def load_mapped(path) -> np.ndarray:
    """A `.npy` file, memory-mapped read-only (an empty one is simply read: nothing to map)."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a whole .npy file ({error})") from None
    return loaded.view(np.ndarray)


def _map(folder: Path, entry: dict) -> np.ndarray:
    path = folder / entry["name"]
    size = path.stat().st_size if path.exists() else -1
    if size != entry["bytes"]:
        found = "missing" if size < 0 else f"{size} bytes"
        raise InputError(f"{path}: {found}, expected {entry['bytes']} bytes; encode it again (--force)")
    array = load_mapped(path)
    if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
        raise InputError(f"{path}: {array.dtype} {array.shape}, expected {entry['dtype']} {tuple(entry['shape'])}")
    return array


def _csr(folder: Path, shard: dict[str, np.ndarray], dimension: int) -> sp.csr_array:
    indptr, lexicons, weights = (shard[part] for part in PARTS["lexicon"])
    if indptr[0] != 0 or indptr[-1] != len(lexicons) or len(weights) != len(lexicons):
        raise InputError(f"{folder}: row pointers do not fit the weights of a shard; encode it again (--force)")
    csr = sp.csr_array((weights, lexicons, indptr), shape=(len(indptr) - 1, dimension), copy=False)
    csr.has_sorted_indices = csr.has_canonical_format = True
    return csr


def _encode(strings: Sequence[str] | None) -> list[np.ndarray] | None:
    return None if strings is None else [np.array([str(s).encode() for s in strings], dtype=np.bytes_)]


def _decode(shards: Sequence[np.ndarray]) -> list[str]:
    return [item.decode() for shard in shards for item in shard.tolist()]
