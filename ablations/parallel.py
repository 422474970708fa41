"""Parallel training: each training in a process of its own, with its share of the cores.

Notable choices
- Small models leave cores idle: two parallel trainings of one thread each are faster than two successive ones of
  two threads.
- All parallel trainings get the same number of threads, and all end before the first is measured, so that none
  disturbs a timing.
- A training whose process is killed, for example when memory runs out, fails alone.
- The processes end with the command, also when it is killed. Ctrl-C reaches the command alone, which then ends them.
"""

import contextlib
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from ablations.config import RunConfig
from ablations.hardware import has_gpu
from bench.store.commands import sigint_blocked
from bench.store.machine import cores
from bench.store.progress import set_terminal_row
from models.errors import InputError

if TYPE_CHECKING:
    from ablations.train import Trained

MEMORY = 4 * 2**30
"""Bytes of memory reserved for each training on a CPU when the number of parallel trainings is chosen automatically."""

FAILURES = (InputError, RuntimeError, MemoryError)
"""Errors of one training. Others abort the command, such as OSError: a full disk affects all trainings."""


class Job(NamedTuple):
    """One training: the arguments of `ablations.train.train`."""

    home: Path
    profile: str
    variant: str
    seed: int
    run: RunConfig
    command: str
    force: bool


def default_parallel(trainings: int) -> int:
    """The default number of parallel trainings: one per core with `MEMORY` available; 1 on a machine with a GPU."""
    if has_gpu():
        return 1
    return max(1, min(trainings, cores(), psutil.virtual_memory().available // MEMORY))


def train_all(
    jobs: Sequence[Job], parallel: int, train: Callable[..., "Trained"], finished: Callable[[Job], bool]
) -> "Iterator[Trained | Exception]":
    """Yields the outcome of each job, in order.

    With `parallel` > 1, all jobs are trained before the first outcome is yielded; with 1, each is trained when its
    outcome is needed.

    Args:
        train, finished: functions of a module, which the processes import. Finished jobs take no process.

    Raises:
        OSError: a disk or file error.
    """
    if parallel == 1:
        yield from (_outcome(train, job) for job in jobs)
        return
    outcomes = _train_in_processes(jobs, parallel, train, finished)
    for number, job in enumerate(jobs):
        yield outcomes[number] if number in outcomes else _outcome(train, job)


def _train_in_processes(jobs, parallel: int, train, finished) -> "dict[int, Trained | Exception]":
    """The outcomes of the unfinished jobs, by their number."""
    unfinished = [number for number, job in enumerate(jobs) if not _is_finished(finished, job)]
    workers: queue.SimpleQueue = queue.SimpleQueue()
    for row in range(parallel):
        workers.put(_Worker(row, max(1, cores() // parallel)))
    running: dict[int, Future] = {}
    with ThreadPoolExecutor(parallel) as pool:
        try:
            for number in unfinished:
                running[number] = pool.submit(_in_process, workers, train, jobs[number])
            outcomes = {number: future.result() for number, future in running.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in running.values()):
                for process in multiprocessing.active_children():
                    process.kill()
                time.sleep(0.02)  # a thread may start one more process
            for process in multiprocessing.active_children():
                process.kill()
                process.join()
            raise
        finally:
            for _ in range(parallel):
                with contextlib.suppress(queue.Empty):
                    workers.get_nowait().close()
    return outcomes


class _Worker:
    """One process that trains one job after another; started when first needed, and again after it was killed."""

    def __init__(self, row: int, threads: int):
        self.row, self.threads = row, threads
        self.process: ProcessPoolExecutor | None = None

    def submit(self, train: Callable[..., "Trained"], job: Job) -> Future:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.process = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self.row, self.threads))
        with sigint_blocked():  # the process starts here; the resource tracker, whose start unblocks SIGINT, is running
            return self.process.submit(train, *job)

    def close(self) -> None:
        if self.process:
            self.process.shutdown(wait=False, cancel_futures=True)
        self.process = None


def _begin(row: int, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    set_terminal_row(row)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _in_process(workers: queue.SimpleQueue, train: Callable[..., "Trained"], job: Job) -> "Trained | Exception":
    worker = workers.get()
    try:
        return worker.submit(train, job).result()
    except BrokenProcessPool:
        worker.close()
        return RuntimeError("its process was killed, probably because memory ran out")
    except FAILURES as error:
        return error
    finally:
        workers.put(worker)


def _outcome(train: Callable[..., "Trained"], job: Job) -> "Trained | Exception":
    try:
        return train(*job)
    except FAILURES as error:
        return error


def _is_finished(finished: Callable[[Job], bool], job: Job) -> bool:
    """False for a job whose look-up fails: its training then fails the same way and reports why."""
    try:
        return finished(job)
    except FAILURES:
        return False
