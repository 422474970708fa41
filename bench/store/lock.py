"""The lock of a home: one command at a time writes to it. Two would do the same work twice and disturb each other's
timings.

The lock is the operating system's (flock), on `<home>/.lock`; it is released if the process dies. `.lock.json`
beside it names the holder. A command that was started by the holder runs under the holder's lock, and ends when the
holder ends. Under torchrun only the first process locks, since it alone writes.
"""

import contextlib
import datetime
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from bench.store.isolated import end_with
from models.errors import InputError
from models.files import BrokenFileError, read_json, write_json

log = logging.getLogger(__name__)

LOCK, HOLDER = ".lock", ".lock.json"
POLL_SECONDS = 0.5
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)  # the home, or a folder above it, is a file


@contextlib.contextmanager
def locked(home: Path, command: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a home during the block.

    Creates the home if needed. Afterwards removes the lock files, and the home if this call created it and it is empty.

    Args:
        command: the command line to show to others while the home is locked.
        wait: wait for another holder to end, instead of raising.

    Raises:
        InputError: the home is in use (the message names the holder), not writable, or on a file system without locks.
    """
    if int(os.environ.get("RANK", 0)):  # under torchrun
        yield
        return
    lock, made = FileLock(home / LOCK, fallback_to_soft=False), False
    try:
        while True:
            made |= not home.exists()
            home.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the previous holder removed the empty home: create it again
                _acquire(lock, home, wait)
                break
        if lock.is_locked:
            since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            holder = {"process": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}
            write_json(home / HOLDER, holder)
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise InputError(
                f"{home}: its file system has no locks ({os.strerror(error.errno)}); use a --home on another"
            ) from None
        if error.errno in NOT_WRITABLE:
            raise InputError(f"{home}: cannot be written ({os.strerror(error.errno)}); use another --home") from None
        if error.errno in NO_FOLDER:
            file = next((path for path in (home, *home.parents) if path.is_file()), home)
            raise InputError(f"{home}: cannot be written ({file} is no folder); use another --home") from None
        raise
    if not lock.is_locked:  # held by an ancestor of this process
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # such as a home that is not empty
            (home / HOLDER).unlink(missing_ok=True)
            (
                home / LOCK
            ).unlink()  # safe: FileLock never acquires a deleted file, so a waiting process creates a new one
            if made:
                home.rmdir()
        lock.release()


def _acquire(lock: FileLock, home: Path, wait: bool) -> None:
    """Acquires the lock, unless an ancestor of this process holds it: then this process will end with that ancestor."""
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        return
    holder = _holder(home)
    ancestors = [parent.pid for parent in psutil.Process().parents()]
    if holder and holder["host"] == socket.gethostname() and holder["process"] in ancestors:
        end_with(holder["process"])
        return
    who = "another process"
    if holder:
        who = f"process {holder['process']} on {holder['host']} since {holder['since']} ({holder['command']})"
    if not wait:
        raise InputError(f"{home}: in use by {who}; wait for it to end, start with --wait, or use another --home")
    log.warning("%s: in use by %s; waiting for it to end", home, who)
    lock.acquire(poll_interval=POLL_SECONDS)


def _holder(home: Path) -> dict | None:
    """The process that holds the lock; None if it has not written its name yet."""
    with contextlib.suppress(BrokenFileError):
        return read_json(home / HOLDER)
    return None
