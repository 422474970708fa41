"""Atomic files and folders, checksums, and JSON.

A file or folder is written beside its target, flushed to disk, then renamed over it, so it is either whole or absent. A
process killed at any moment leaves at most a hidden `.NAME.HOST-PID-N.partial` beside the target; readers ignore it,
and the next write of the same target on the same machine removes it.

Checksums are SHA-256, or CRC-32 for files of gigabytes that are checked at each opening.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import socket
import zlib
from pathlib import Path

import numpy as np

from models.errors import InputError

SEAL = "seal"
"""Key in a sealed JSON file that holds the SHA-256 of the other keys."""

CHUNK_BYTES = 1 << 20  # read at a time
FULL_BYTES = 1 << 20
"""A disk with less free space than this counts as full: the writers of some libraries stop before the last block."""

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""errno values of a full, read-only or broken disk: errors of the machine, not of the code that writes."""

_count = itertools.count()


class BrokenFileError(InputError):
    """A file written by this project is missing, truncated or changed. The message says how to recreate it."""


def sha256(path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32(path) -> int:
    """CRC-32 of a file's bytes.

    Detects every change within 32 bits and all but one in 4 billion others; it gives no protection against forgery.
    """
    crc, chunk = 0, memoryview(bytearray(CHUNK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(chunk):
            crc = zlib.crc32(chunk[:size], crc)
    return crc


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a string in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def atomic_file(path):
    """Yields a temporary Path in the same folder; renames it to `path` at the end of the block, or removes it.

    Raises OSError (ENOSPC) where the block fails and the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with refusing_if_full(path.parent):
            yield partial
            _flush(partial)
        os.replace(partial, path)
        _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path):
    """Yields a temporary folder beside `path`; renames it to `path` at the end of the block, removes it if that raises.

    An existing folder at `path` stays readable until the block ends and is then replaced. Raises OSError as
    `atomic_file`.

    Trap: POSIX cannot swap two folders in one step. A process killed between the two renames leaves neither at `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.mkdir()
    try:
        with refusing_if_full(path.parent):
            yield partial
            for inner in sorted(partial.rglob("*"), reverse=True):
                _flush(inner)
            _flush(partial)
        if path.exists():
            replaced = _partial(path)
            os.rename(path, replaced)
            os.rename(partial, path)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            os.rename(partial, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def refusing_if_full(folder):
    """Raises OSError (ENOSPC) in place of any error of the block while the disk of `folder` is full.

    Libraries report a full disk in many ways, or in none.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) and error.errno in REFUSALS):
            refuse_if_full(folder, str(error))
        raise


def refuse_if_full(folder, note: str = "") -> None:
    """Raises OSError (ENOSPC) if the disk of `folder` is full; `note` is added to its message."""
    if shutil.disk_usage(folder).free < FULL_BYTES:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}{f' ({note})' if note else ''}", str(folder))


def mapped_array(path, dtype, shape: tuple[int, ...]) -> np.memmap:
    """Creates a `.npy` file and maps it for writing.

    Trap: its space is allocated at once, because a disk that fills up under a mapped file kills the process.
    """
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    return mapped


def write_json(path, value, seal: bool = False) -> None:
    """Writes `value` as indented JSON, atomically. With `seal`, a checksum is added that `read_json` verifies."""
    if seal:
        value = json.loads(json.dumps(value))
        value = (value if isinstance(value, dict) else {"value": value}) | {SEAL: _seal(value)}
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path, remedy: str = ""):
    """Reads a JSON file and removes its seal.

    Raises BrokenFileError if the file is missing, is not JSON, or has a seal that does not match; `remedy` ends the
    message.
    """
    then = remedy and f"; {remedy}"
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BrokenFileError(f"{path}: no such file{then}") from None
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path}: not valid JSON ({error}){then}") from None
    if not (isinstance(value, dict) and SEAL in value):
        return value
    seal = value.pop(SEAL)
    if set(value) == {"value"} and seal == _seal(value["value"]):
        return value["value"]
    if seal != _seal(value):
        raise BrokenFileError(f"{path}: changed since it was written (its seal does not match){then}")
    return value


def _seal(value) -> str:
    return sha256_text(json.dumps(value, sort_keys=True))


def _partial(path: Path) -> Path:
    """A free temporary name beside `path`. Removes those of killed processes of this machine."""
    host = socket.gethostname().split(".")[0]
    prefix = f".{path.name}.{host}-"
    for name in os.listdir(path.parent):  # for each record of a large home: much faster than a glob
        if name.startswith(prefix) and name.endswith(".partial"):
            owner, left = name.removeprefix(prefix).split("-")[0], path.with_name(name)
            if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}-{next(_count)}.partial")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """fsync of a file or folder. Windows cannot open folders; there the rename alone has to suffice."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
