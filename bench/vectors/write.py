"""How vectors get to disk: shards of `.npy` files with their sizes and SHA-256, written by streaming (`bench.vectors.read` reads them).

`write_vectors` is all or nothing. `resume_vectors` keeps every whole shard: they stand in `<folder>.parts/`, each described by a
`NNNNN.json` that is written last, and become `<folder>` by one rename when all are there. Killed at any moment, the next run goes on
after the last shard described, and what else lies there does not count. A lock keeps a second process out.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from filelock import FileLock, Timeout

from models.errors import InputError
from models.files import BrokenFileError, atomic_file, atomic_folder, read_json, sha256, write_json

FORMAT = 1
SHARD_ROWS = 65_536
PARTS = {"dense": ("values",), "lexicon": ("indptr", "lexicons", "weights")}
LOCK = "lock"
AGAIN = "encode it again (--force)"


@contextlib.contextmanager
def write_vectors(
    folder,
    kind: str,
    dimension: int,
    vocabulary: Sequence[str] | None = None,
    made_from=None,
    shard_rows: int = SHARD_ROWS,
):
    """Yields a writer whose `append(batch, ids, groups=None)` streams items to `folder`; the folder appears when the block ends.

    batch: (B, dimension) float32 array, or scipy sparse for lexicon vectors. made_from: plain values kept in meta.json, saying what the
    vectors were made from. Memory stays at one shard, whatever the number of items. Raises InputError when a vector is not finite.
    """
    with atomic_folder(folder) as partial:
        writer = VectorsWriter(partial, kind, dimension, shard_rows)
        yield writer
        writer.close(vocabulary, made_from)


@contextlib.contextmanager
def resume_vectors(
    folder,
    kind: str,
    dimension: int,
    vocabulary: Sequence[str] | None = None,
    made_from=None,
    shard_rows: int = SHARD_ROWS,
    force: bool = False,
) -> Iterator["VectorsWriter"]:
    """As `write_vectors`, but whole shards outlive a block that did not end: append from item `writer.count` on. `force` starts anew.

    `folder` must name what the vectors are made of (by a hash, say): shards found are taken as the beginning of the same vectors.
    Raises InputError naming a shard's file that is missing, truncated or changed, and when another process is writing the same folder.
    """
    folder = Path(folder)
    parts = folder.with_name(f"{folder.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    with _locked(parts):
        if force:
            _clear(parts)
        writer = _Resumable(parts, kind, dimension, shard_rows, _whole_shards(parts))
        try:
            yield writer
        except BaseException:
            if not writer.shards:
                shutil.rmtree(parts)
            raise
        writer.close(vocabulary, made_from)
        _replace(folder, parts)
    (folder / LOCK).unlink(missing_ok=True)


class VectorsWriter:
    """Cuts what is appended into shards of exactly `shard_rows` rows, whatever the size of the batches. `shards`: those written."""

    def __init__(self, folder: Path, kind: str, dimension: int, shard_rows: int, shards: Sequence[dict] = ()):
        if kind not in PARTS:
            raise ValueError(f"kind '{kind}': expected dense or lexicon")
        self.folder, self.kind, self.dimension, self.shard_rows = folder, kind, dimension, shard_rows
        self.shards = list(shards)
        self._batches, self._ids, self._groups = [], [], []
        self._grouped = "groups" in self.shards[0]["files"] if self.shards else None

    @property
    def count(self) -> int:
        """Items so far, those of earlier runs included."""
        return sum(shard["count"] for shard in self.shards) + len(self._ids)

    def append(self, batch, ids: Sequence[str], groups: Sequence[str] | None = None) -> None:
        """Adds B items."""
        if batch.shape != (len(ids), self.dimension) or (groups is not None and len(groups) != len(ids)):
            raise ValueError(
                f"a batch of shape {batch.shape} with {len(ids)} ids; expected ({len(ids)}, {self.dimension})"
            )
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
        if vocabulary is not None:
            if len(vocabulary) != self.dimension:
                raise ValueError(f"a vocabulary of {len(vocabulary)} for {self.dimension} lexicons")
            write_json(self.folder / "vocabulary.json", list(vocabulary), seal=True)
        meta = {
            "format": FORMAT,
            "kind": self.kind,
            "dimension": self.dimension,
            "count": self.count,
            "has": {"ids": True, "groups": bool(self._grouped), "vocabulary": vocabulary is not None},
            "made_from": made_from,
            "shards": self.shards,
        }
        write_json(self.folder / "meta.json", meta, seal=True)

    def _flush(self, count: int) -> None:
        rows = sp.vstack(self._batches, format="csr") if self.kind == "lexicon" else np.concatenate(self._batches)
        rest = rows[count:].copy()  # a view would keep the whole shard in memory
        parts = _parts(rows[:count]) | {"ids": encoded(self._ids[:count])}
        if self._grouped:
            parts["groups"] = encoded(self._groups[:count])
        self.shards.append(
            {"count": count, "files": {part: self._save(part, values) for part, values in parts.items()}}
        )
        self._batches, self._ids, self._groups = (
            [rest] if rest.shape[0] else [],
            self._ids[count:],
            self._groups[count:],
        )

    def _save(self, part: str, values: np.ndarray) -> dict:
        path = self.folder / f"{len(self.shards):05d}.{part}.npy"
        self._write(path, values)
        described = {"name": path.name, "shape": list(values.shape), "dtype": values.dtype.str}
        return described | {"bytes": path.stat().st_size, "sha256": sha256(path)}

    def _write(self, path: Path, values: np.ndarray) -> None:
        np.save(path, values, allow_pickle=False)


class _Resumable(VectorsWriter):
    """Flushes each file to disk, and describes each shard when all its files are there."""

    def _flush(self, count: int) -> None:
        super()._flush(count)
        write_json(_description(self.folder, len(self.shards) - 1), self.shards[-1], seal=True)

    def _write(self, path: Path, values: np.ndarray) -> None:
        with atomic_file(path) as partial, open(partial, "wb") as file:
            np.save(file, values, allow_pickle=False)

    def close(self, vocabulary: Sequence[str] | None, made_from) -> None:
        super().close(vocabulary, made_from)
        for number in range(len(self.shards)):
            _description(self.folder, number).unlink(missing_ok=True)


def check_size(folder: Path, entry: dict) -> Path:
    """The path of a shard's file. Raises InputError when it is missing or of another size than described."""
    path = folder / entry["name"]
    size = path.stat().st_size if path.exists() else -1
    if size != entry["bytes"]:
        found = "missing" if size < 0 else f"{size} bytes"
        raise BrokenFileError(f"{path}: {found}, expected {entry['bytes']} bytes; {AGAIN}")
    return path


def check_content(folder: Path, entry: dict) -> None:
    """Reads a shard's file. Raises InputError when it is missing or differs from what was written."""
    if sha256(check_size(folder, entry)) != entry["sha256"]:
        raise BrokenFileError(f"{folder / entry['name']}: its content has changed since it was written; {AGAIN}")


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


def encoded(strings: Sequence[str]) -> np.ndarray:
    """Strings as UTF-8 in an array of fixed width."""
    return np.array([str(s).encode() for s in strings], dtype=np.bytes_)


def _parts(rows) -> dict[str, np.ndarray]:
    if isinstance(rows, np.ndarray):
        return {"values": rows.astype(np.float32, copy=False)}
    indptr, lexicons = rows.indptr.astype(np.int64), rows.indices.astype(np.int32, copy=False)
    return {"indptr": indptr, "lexicons": lexicons, "weights": rows.data.astype(np.float32, copy=False)}


def _description(parts: Path, number: int) -> Path:
    return parts / f"{number:05d}.json"


def _whole_shards(parts: Path) -> list[dict]:
    """Shards that an earlier run described, their content checked."""
    if (parts / "meta.json").exists():  # killed between the last shard and the rename
        shards = read_json(parts / "meta.json", AGAIN)["shards"]
    else:
        shards = []
        while (described := _description(parts, len(shards))).exists():
            shards.append(read_json(described, AGAIN))
    for shard in shards:
        for entry in shard["files"].values():
            check_content(parts, entry)
    return shards


def _clear(parts: Path) -> None:
    for left in parts.iterdir():
        if left.name != LOCK:
            left.unlink()


@contextlib.contextmanager
def _locked(parts: Path) -> Iterator[None]:
    lock = FileLock(parts / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{parts}: another process is writing these vectors; wait for it to end") from None
    try:
        yield
    finally:
        lock.release()


def _replace(folder: Path, parts: Path) -> None:
    """Renames `parts` to `folder`, in place of one that stands there; a kill on the way leaves `parts` whole."""
    replaced = folder.with_name(f"{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        os.rename(folder, replaced)
    os.rename(parts, folder)
    shutil.rmtree(replaced, ignore_errors=True)
