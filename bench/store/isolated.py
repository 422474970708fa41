"""A job in a process of its own, under a time limit and a memory limit: whatever a library does to memory or threads ends with it.

How a job ended is told by a status, and is a result. What is nobody's result ends the command instead: a full disk, a broken file. A job
ends with the command that started it, even when that is killed: nobody else may work on what the next command takes up.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from models.errors import InputError
from models.files import read_json, refuse_if_full, write_json

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
REFUSED = "refused"
"""How a job answers that met a broken file, or a disk that is full or fails; no status of a record."""


@dataclass(frozen=True)
class Limits:
    """Of one job: wall seconds, and bytes of its own memory over all its processes (mapped files do not count)."""

    seconds: float = 3600.0
    memory_bytes: int = field(default_factory=lambda: int(0.9 * psutil.virtual_memory().total))


@dataclass(frozen=True)
class Outcome:
    """How a job ended: a status of `bench.store.records.STATUSES`, what it returned, and one line that says why when it is not "ok"."""

    status: str
    result: dict
    note: str = ""


def run_job(job: str, request: dict, folder: Path, limits: Limits) -> Outcome:
    """`python -m bench.scale.worker job folder`; request and result are JSON files in `folder`, arrays lie beside them.

    Raises InputError or OSError for a broken file and for a disk that is full or fails.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    write_json(folder / "request.json", request | {"parent": os.getpid()})
    with (folder / "stderr.txt").open("wb") as errors:
        worker = psutil.Popen(
            [sys.executable, "-m", "bench.scale.worker", job, str(folder)], stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            stopped = _watch(worker, limits)
        finally:
            _kill(worker)
    if stopped:
        return stopped
    if (folder / "result.json").exists():
        answer = read_json(folder / "result.json")
        if answer["status"] == REFUSED:
            raise InputError(answer["note"])
        return Outcome(answer["status"], answer["result"], answer["note"])
    refuse_if_full(folder)
    if worker.returncode == -9:
        return Outcome("out_of_memory", {}, "killed by the system, as it does when memory runs out")
    lines = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Outcome("failed", {}, f"exit code {worker.returncode}: {lines[-1][:300] if lines else 'no message'}")


def _watch(worker: psutil.Popen, limits: Limits) -> Outcome | None:
    """Waits for the end of the worker; an Outcome when a limit was passed first."""
    end = time.monotonic() + limits.seconds
    while True:
        try:
            worker.wait(POLL_SECONDS)
            return None
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                return Outcome("timeout", {}, f"not done after {limits.seconds:g} s")
            if (used := _own_memory(worker)) > limits.memory_bytes:
                return Outcome(
                    "out_of_memory",
                    {},
                    f"{used / 2**30:.1f} GiB in use, over the limit of {limits.memory_bytes / 2**30:.1f} GiB",
                )


def _own_memory(worker: psutil.Process) -> int:
    total = 0
    for process in _family(worker):
        try:
            memory = process.memory_info()
        except psutil.Error:
            continue
        total += memory.rss - getattr(memory, "shared", 0)
    return total


def _family(worker: psutil.Process) -> list[psutil.Process]:
    try:
        return [worker, *worker.children(recursive=True)]
    except psutil.Error:
        return []


def _kill(worker: psutil.Popen) -> None:
    family = _family(worker)
    for process in family:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(family, timeout=10)


def end_with(pid: int) -> None:
    """From now on this process ends when the process `pid` does, and all that it has started with it."""

    def wait() -> None:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).wait()
        for child in _family(psutil.Process())[1:]:
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()


def raise_if_broken(outcome: Outcome, what: str) -> dict:
    """The result of a job that nothing can do without. Raises InputError when it did not end well."""
    if outcome.status != "ok":
        raise InputError(f"{what}: {outcome.status}: {outcome.note}")
    return outcome.result
