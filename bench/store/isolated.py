"""Jobs in a process of their own, under a time limit and a memory limit.

What a library does to memory or threads ends with the process.

How a job ended is a status, and a result that is recorded. Disk and file errors are not: they abort the command. A job
ends with the command that started it, even when the command is killed, because the next command may resume the same
job.

A worker is a module that calls `run_requested(JOBS)` when it runs as `python -m MODULE JOB FOLDER`; `run_job` starts
it.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.store.commands import sigint_blocked
from models.errors import AbsentError, InputError
from models.files import REFUSALS, BrokenFileError, read_json, refuse_if_full, write_json

POLL_SECONDS = 0.2
REFUSED = "refused"
"""Answer of a job that met a broken file, or a disk that is full or fails. Not a status of a record."""


@dataclass(frozen=True)
class Limits:
    """Limits of one job: wall seconds, and bytes of memory over all its processes (mapped files do not count)."""

    seconds: float = 3600.0
    memory_bytes: int = field(default_factory=lambda: int(0.9 * psutil.virtual_memory().total))


@dataclass(frozen=True)
class Outcome:
    """How a job ended: a status of `bench.store.schema.STATUSES`, its result, and the reason unless it is "ok"."""

    status: str
    result: dict
    note: str = ""


def run_job(job: str, request: dict, folder: Path, limits: Limits, worker: str) -> Outcome:
    """Runs `python -m WORKER JOB FOLDER` and waits for it.

    The request and the result are JSON files in `folder`; arrays lie beside them. The process and its children are
    killed when a limit is passed, and when this call is interrupted.
    Raises InputError for a broken file, OSError for a disk that is full or fails.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    write_json(folder / "request.json", request | {"parent": os.getpid()})
    command = [sys.executable, "-m", worker, job, str(folder)]
    process = None
    with (folder / "stderr.txt").open("wb") as errors:
        try:
            with sigint_blocked():  # so that the process is always known when Ctrl-C is raised
                process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
            stopped = _watch(process, limits)
        finally:
            if process is not None:
                _kill(process)
    if stopped:
        return stopped
    if (folder / "result.json").exists():
        answer = read_json(folder / "result.json")
        if answer["status"] == REFUSED:
            raise InputError(answer["note"])
        return Outcome(answer["status"], answer["result"], answer["note"])
    refuse_if_full(folder)
    if process.returncode == -9:
        return Outcome("out_of_memory", {}, "killed by the system, as it does when memory runs out")
    lines = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Outcome("failed", {}, f"exit code {process.returncode}: {lines[-1][:300] if lines else 'no message'}")


def result_of(outcome: Outcome, what: str) -> dict:
    """The result of a job that the command depends on. Raises InputError, with `what` first, unless it is "ok"."""
    if outcome.status != "ok":
        raise InputError(f"{what}: {outcome.status}: {outcome.note}")
    return outcome.result


# --- the worker's side ------------------------------------------------------------------------------------------------


def run_requested(jobs: Mapping[str, Callable[[dict, Path], dict]], job: str, folder: Path) -> None:
    """Runs a job on the request in `folder` and writes `result.json` there. Called by a worker.

    A job takes (request, folder) and returns its result. The key "missing" of a result, if not empty, says which part
    of an index did not
    answer: then the status is "failed" and the result is kept. An unexpected error keeps its traceback, in the folder's
    stderr.txt.
    """
    request = read_json(folder / "request.json")
    end_with(request["parent"])
    status, note, result = "ok", "", {}
    try:
        result = jobs[job](request, folder)
        if missing := result.pop("missing", ""):
            status, note = "failed", f"partial: {missing}"
    except BrokenFileError as error:
        status, note = REFUSED, str(error)
    except AbsentError as error:
        status, note = "absent", str(error)
    except InputError as error:
        status, note = "failed", str(error)
    except MemoryError as error:
        status, note = "out_of_memory", str(error) or "no memory left"
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        status, note = REFUSED, str(error)
    write_json(folder / "result.json", {"status": status, "note": note, "result": result})


def end_with(pid: int) -> None:
    """Makes this process end, with all that it has started, when the process `pid` ends."""

    def wait() -> None:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).wait()
        for child in _family(psutil.Process())[1:]:
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()


# --- watching a process -----------------------------------------------------------------------------------------------


def _watch(process: psutil.Popen, limits: Limits) -> Outcome | None:
    """Waits for the process to end; an Outcome when it passed a limit first."""
    end = time.monotonic() + limits.seconds
    while True:
        try:
            process.wait(POLL_SECONDS)
            return None
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                return Outcome("timeout", {}, f"not done after {limits.seconds:g} s")
            if (used := _own_memory(process)) > limits.memory_bytes:
                amounts = f"{used / 2**30:.1f} GiB in use, over the limit of {limits.memory_bytes / 2**30:.1f} GiB"
                return Outcome("out_of_memory", {}, amounts)


def _own_memory(process: psutil.Process) -> int:
    """Bytes of resident memory of a process and its descendants, without shared pages (mapped files)."""
    total = 0
    for member in _family(process):
        try:
            memory = member.memory_info()
        except psutil.Error:
            continue
        total += memory.rss - getattr(memory, "shared", 0)
    return total


def _family(process: psutil.Process) -> list[psutil.Process]:
    """The process and its descendants; empty when it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _kill(process: psutil.Popen) -> None:
    family = _family(process)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(family, timeout=10)
