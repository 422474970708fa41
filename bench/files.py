"""Files that are either whole or absent: written beside their place, flushed to disk, then renamed over it.

A process killed at any moment leaves at most a hidden `.NAME.HOST-PID-N.partial` beside the target; nothing that reads results looks
at those, and the next write of the same target on the same machine removes them.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import socket
from pathlib import Path

from models.errors import InputError

_count = itertools.count()


def sha256(path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def write_json(path, value) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path):
    """Reads a JSON file. Raises InputError when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


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
