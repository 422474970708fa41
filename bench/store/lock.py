"""One run at a time on a home: two would train, build and measure the same things beside each other, and time each other's noise.

The lock is the operating system's (flock), on `<home>/.lock`, so that of a killed process holds nobody up; who holds it stands in
`.lock.json` beside it. What a command starts works under its lock: another command of this project that finds the lock with a process
that started it goes on, and ends with that process. Of the processes of torchrun the first locks, as it alone writes.
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


@contextlib.contextmanager
def locked(home: Path, command: str, wait: bool = False) -> Iterator[None]:
    """Holds a home for the block, and leaves nothing of its own in it; a home that was not there and that the block leaves empty is gone again.

    command: as a user types it. wait: for another to end. Raises InputError that names who holds it, and for a home that cannot be
    written or locked.
    """
    if int(os.environ.get("RANK", 0)):  # of torchrun
        yield
        return
    lock, made = FileLock(home / LOCK, fallback_to_soft=False), False
    try:
        while True:
            made |= not home.exists()
            home.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(
                FileNotFoundError
            ):  # the one that held the home had made it, and left it empty, so it is gone
                _acquire(lock, home, wait)
                break
        if lock.is_locked:
            since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            write_json(
                home / HOLDER,
                {"process": os.getpid(), "host": socket.gethostname(), "since": since, "command": command},
            )
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise InputError(
                f"{home}: its file system has no locks ({os.strerror(error.errno)}); take a --home on another"
            ) from None
        if error.errno in NOT_WRITABLE:
            raise InputError(f"{home}: cannot be written ({os.strerror(error.errno)}); take another --home") from None
        raise
    if not lock.is_locked:  # held for this process by one that started it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty, say
            (home / HOLDER).unlink(missing_ok=True)
            (home / LOCK).unlink()  # FileLock takes none that is gone from its folder, so one that waits takes the next
            if made:
                home.rmdir()
        lock.release()


def _acquire(lock: FileLock, home: Path, wait: bool) -> None:
    """Takes the lock, or leaves it with a process that started this one and ends with that."""
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        return
    holder = _holder(home)
    if (
        holder
        and holder["host"] == socket.gethostname()
        and holder["process"] in [parent.pid for parent in psutil.Process().parents()]
    ):
        end_with(holder["process"])
        return
    who = "another process"
    if holder:
        who = f"process {holder['process']} on {holder['host']} since {holder['since']} ({holder['command']})"
    if not wait:
        raise InputError(f"{home}: in use by {who}; wait for it to end, start with --wait, or take another --home")
    log.warning("%s: in use by %s; waiting for it to end", home, who)
    lock.acquire(poll_interval=POLL_SECONDS)


def _holder(home: Path) -> dict | None:
    """Who holds the lock; None where that is not written yet."""
    with contextlib.suppress(BrokenFileError):
        return read_json(home / HOLDER)
    return None
