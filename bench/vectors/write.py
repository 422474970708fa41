"""Writes vectors to disk by streaming (`format` describes the files, `read` opens them).

`write_vectors` is all or nothing. `resume_vectors` keeps every complete shard in `<folder>.parts/`, described by a
`NNNNN.json` that is written last; a rename to `<folder>` ends the run. Killed at any moment, the next run resumes
after the last described shard and ignores other files. A lock excludes a second process.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy
from filelock import FileLock, Timeout

from bench.vectors.format import FORMAT, PARTS, REMEDY, SHARD_ROWS, check_content, encode_strings, to_csr
from models.errors import InputError
from models.files import atomic_file, atomic_folder, read_json, sha256, write_json

LOCK = "lock"


@contextlib.contextmanager
def write_vectors(
    folder,
    kind: str,
    dimension: int,
    vocabulary: Sequence[str] | None = None,
    made_from=None,
    shard_rows: int = SHARD_ROWS,
    qrels: Mapping[str, Mapping[str, float]] | None = None,
):
    """Context manager: yields a `VectorsWriter`; `folder` appears when the block ends, and not if it raises.

    kind: "dense" or "lexicon". dimension: D, or V lexicons. made_from: plain values stored in meta.json that say what
    the vectors were made from. qrels: of queries, query id -> document id -> grade above 0. Memory is that of one
    shard, for any number of items. Raises InputError for a vector that is not finite.
    """
    with atomic_folder(folder) as partial:
        writer = VectorsWriter(partial, kind, dimension, shard_rows)
        yield writer
        if qrels is not None:
            write_json(partial / "qrels.json", {"qrels": qrels}, seal=True)
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
    """As `write_vectors`, but complete shards survive a block that raises and a process that dies.

    Append from item `writer.count` on.

    Trap: shards found are taken for the first items of the same vectors, so `folder` must identify the vectors (by a
    hash of `made_from`, say). force: discards them. Raises InputError for a file of a shard that is missing,
    truncated or changed, and if another process is writing the same folder.
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
    """Writes appended items as shards of `shard_rows` rows, for any batch size. shards: meta data of those written."""

    def __init__(self, folder: Path, kind: str, dimension: int, shard_rows: int, shards: Sequence[dict] = ()):
        if kind not in PARTS:
            raise ValueError(f"kind '{kind}': expected dense or lexicon")
        self.folder, self.kind, self.dimension, self.shard_rows = folder, kind, dimension, shard_rows
        self.shards = list(shards)
        self._batches, self._ids, self._groups = [], [], []
        self._grouped = "groups" in self.shards[0]["files"] if self.shards else None

    @property
    def count(self) -> int:
        """Number of items so far, including those of earlier runs."""
        return sum(shard["count"] for shard in self.shards) + len(self._ids)

    def append(self, batch, ids: Sequence[str], groups: Sequence[str] | None = None) -> None:
        """Adds B items. batch: (B, dimension) float32, or scipy sparse for lexicon vectors. groups: image ids.

        Raises InputError for a value that is not finite, and for a negative weight.
        """
        if batch.shape != (len(ids), self.dimension) or (groups is not None and len(groups) != len(ids)):
            expected = f"expected ({len(ids)}, {self.dimension})"
            raise ValueError(f"batch of shape {batch.shape} with {len(ids)} ids; {expected}")
        if self._grouped not in (None, groups is not None):
            raise ValueError("expected groups for all batches or for none")
        self._grouped = groups is not None
        values = batch.data if scipy.sparse.issparse(batch) else np.asarray(batch)
        fits = np.isfinite(values) & (values >= 0) if self.kind == "lexicon" else np.isfinite(values)
        if not fits.all():
            broken = (
                int(scipy.sparse.coo_array(batch).row[~fits][0])
                if scipy.sparse.issparse(batch)
                else int(np.argwhere(~fits)[0, 0])
            )
            found = "not finite" if not np.isfinite(values).all() else "negative"
            item = f"row {self.count + broken}: the vector of item '{ids[broken]}'"
            raise InputError(f"{item} is {found}; what made it is broken")
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
                raise ValueError(f"vocabulary of {len(vocabulary)} strings, expected {self.dimension}")
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
        if (qrels := self.folder / "qrels.json").exists():
            meta["qrels"] = sha256(qrels)
        write_json(self.folder / "meta.json", meta, seal=True)

    def _flush(self, count: int) -> None:
        rows = (
            scipy.sparse.vstack(self._batches, format="csr")
            if self.kind == "lexicon"
            else np.concatenate(self._batches)
        )
        rest = rows[count:].copy()  # a view would keep the whole shard in memory
        parts = _parts(rows[:count]) | {"ids": encode_strings(self._ids[:count])}
        if self._grouped:
            parts["groups"] = encode_strings(self._groups[:count])
        files = {part: self._save(part, values) for part, values in parts.items()}
        self.shards.append({"count": count, "files": files})
        self._batches = [rest] if rest.shape[0] else []
        self._ids, self._groups = self._ids[count:], self._groups[count:]

    def _save(self, part: str, values: np.ndarray) -> dict:
        path = self.folder / f"{len(self.shards):05d}.{part}.npy"
        self._write(path, values)
        described = {"name": path.name, "shape": list(values.shape), "dtype": values.dtype.str}
        return described | {"bytes": path.stat().st_size, "sha256": sha256(path)}

    def _write(self, path: Path, values: np.ndarray) -> None:
        np.save(path, values, allow_pickle=False)


class _Resumable(VectorsWriter):
    """Flushes each file to disk, and writes the description of a shard after all its files."""

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


def _parts(rows) -> dict[str, np.ndarray]:
    if isinstance(rows, np.ndarray):
        return {"values": rows.astype(np.float32, copy=False)}
    indptr, lexicons = rows.indptr.astype(np.int64), rows.indices.astype(np.int32, copy=False)
    return {"indptr": indptr, "lexicons": lexicons, "weights": rows.data.astype(np.float32, copy=False)}


def _description(parts: Path, number: int) -> Path:
    return parts / f"{number:05d}.json"


def _whole_shards(parts: Path) -> list[dict]:
    """Meta data of the shards that an earlier run completed; their content is checked."""
    if (parts / "meta.json").exists():  # killed between the last shard and the rename
        shards = read_json(parts / "meta.json", REMEDY)["shards"]
    else:
        shards = []
        while (described := _description(parts, len(shards))).exists():
            shards.append(read_json(described, REMEDY))
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
        raise InputError(f"{parts}: another process is writing these vectors; wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


def _replace(folder: Path, parts: Path) -> None:
    """Renames `parts` to `folder` and removes a previous one; `parts` stays complete if the process dies in between."""
    replaced = folder.with_name(f"{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        os.rename(folder, replaced)
    os.rename(parts, folder)
    shutil.rmtree(replaced, ignore_errors=True)
