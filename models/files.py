"""Files that are either whole or absent: written beside their place, flushed to disk, then renamed over it.

A process killed at any moment leaves at most a hidden `.NAME.HOST-PID-N.partial` beside the target; nothing that reads results looks
at those, and the next write of the same target on the same machine removes them.

What was written is known again by a checksum: SHA-256, or CRC-32 where gigabytes are read each time they are opened.
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
"""Key of a sealed JSON file: the SHA-256 of the rest."""

PIECE = 1 << 20  # bytes read at a time
FULL_BYTES = 1 << 20
"""A disk with less room than this is taken to be full: writers of libraries leave a last piece unused."""

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Of an OSError: the disk is full, read-only or broken, which is the fault of no one who writes to it."""

_count = itertools.count()


class BrokenFileError(InputError):
    """A file that this project wrote is missing, truncated or changed. The message names it, and says how to make it again."""


def sha256(path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32(path) -> int:
    """CRC-32 of a file's bytes, a piece at a time.

    It finds every change within 32 bits, and all but one of 4 billion others; it is no help against someone who wants it to fit.
    """
    found, piece = 0, memoryview(bytearray(PIECE))
    with open(path, "rb", buffering=0) as file:
        while read := file.readinto(piece):
            found = zlib.crc32(piece[:read], found)
    return found


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a string in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def atomic_file(path):
    """Yields a temporary Path in the same folder; renames it to `path` when the block ends, removes it when the block raises."""
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
    """Yields a temporary folder beside `path`; renames it to `path` when the block ends, removes it when the block raises.

    A folder that already stands at `path` stays readable until the block has ended, and is then replaced. (POSIX cannot swap two
    folders in one step: between its removal and the rename there is a moment without either, so killed there, it is simply absent.)
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
    """An error in the block is an OSError that says so where the disk of `folder` is full: libraries have many words for it, or none."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) and error.errno in REFUSALS):
            refuse_if_full(folder, str(error))
        raise


def refuse_if_full(folder, note: str = "") -> None:
    """Raises OSError when the disk of `folder` is full."""
    if shutil.disk_usage(folder).free < FULL_BYTES:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}{f' ({note})' if note else ''}", str(folder))


def mapped_array(path, dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new `.npy` file, mapped to be written. Its room is taken at once: a disk that fills up under a mapped file kills the process."""
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    return mapped


def write_json(path, value, seal: bool = False) -> None:
    """Writes `value` as indented JSON, atomically. With a `seal`, `read_json` refuses it when a bit of it has changed."""
    if seal:
        value = json.loads(json.dumps(value))
        value = (value if isinstance(value, dict) else {"value": value}) | {SEAL: _seal(value)}
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path, remedy: str = ""):
    """Reads a JSON file, without its seal. Raises BrokenFileError when it is missing or broken; `remedy` says what makes it again."""
    then = remedy and f"; {remedy}"
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BrokenFileError(f"{path}: no such file{then}") from None
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path}: not valid JSON ({error}){then}") from None
    if not (isinstance(value, dict) and SEAL in value):
        return value
    seal = value.pop(SEAL)
    if set(value) == {"value"} and seal == _seal(value["value"]):
        return value["value"]
    if seal != _seal(value):
        raise BrokenFileError(f"{path}: changed since it was written (its seal does not fit){then}")
    return value


def _seal(value) -> str:
    return sha256_text(json.dumps(value, sort_keys=True))


def _partial(path: Path) -> Path:
    """A free temporary name beside `path`; removes what killed processes of this machine left for the same target."""
    host = socket.gethostname().split(".")[0]
    prefix = f".{path.name}.{host}-"
    for left in path.parent.glob(f"{_escape(prefix)}*.partial"):
        owner = left.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}-{next(_count)}.partial")


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """fsync of a file or a folder; folders cannot be opened on Windows, where the rename alone must do."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
