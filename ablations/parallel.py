"""Trainings beside each other, each in a process and on a share of the cores of its own.

Notable choices
- Small models leave cores idle: two trainings of one thread each take less time than one after the other with two threads.
- All trainings of a command get the same number of threads, and none is measured before all are done, so that nothing disturbs a timing.
- A training whose process is killed, as it is when memory runs out, fails alone. If the command itself is killed, its trainings end with it.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from ablations.config import RunConfig
from bench.store import cli
from bench.store.machine import cores
from models.errors import InputError

if TYPE_CHECKING:
    from ablations.train import Trained

MEMORY = 4 * 2**30
"""Bytes that a training on a CPU is taken to need at most, where the user does not say how many to start."""

FAILURES = (InputError, RuntimeError, MemoryError)
"""What goes wrong with one training; a full disk (OSError) is no variant's fault and ends the command."""


class Job(NamedTuple):
    """One training: the arguments of `ablations.train.train`."""

    home: Path
    profile: str
    variant: str
    seed: int
    run: RunConfig
    command: str
    force: bool


def at_once(trainings: int) -> int:
    """How many trainings to start side by side unless the user says: one per core that has memory for it; one at all where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return 1
    return max(1, min(trainings, cores(), psutil.virtual_memory().available // MEMORY))


def trained(
    jobs: Sequence[Job], number: int, train: Callable[..., "Trained"], finished: Callable[[Job], bool]
) -> "Iterator[Trained | Exception]":
    """The outcome of each job, in order: all trained, `number` at a time, before the first is given; with a `number` of 1, each when it is asked for.

    `train`, `finished`: functions of a module, which the processes import. Finished jobs take no process.

    Raises:
        OSError: the disk is full, or the like.
    """
    if number == 1:
        yield from (_outcome(train, job) for job in jobs)
        return
    slots: queue.SimpleQueue = queue.SimpleQueue()
    for row in range(number):
        slots.put(_Slot(row, max(1, cores() // number)))
    with ThreadPoolExecutor(number) as pool:
        waiting = {
            place: pool.submit(_in_a_slot, slots, train, job)
            for place, job in enumerate(jobs)
            if not _finished(finished, job)
        }
        try:
            outcomes = {place: future.result() for place, future in waiting.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    for _ in range(number):
        slots.get().close()
    for place, job in enumerate(jobs):
        yield outcomes[place] if place in outcomes else _outcome(train, job)


class _Slot:
    """One process that trains one job after the other, started when it is first needed, and again after it was killed."""

    def __init__(self, row: int, threads: int):
        self.row, self.threads = row, threads
        self.process: ProcessPoolExecutor | None = None

    def submit(self, train: Callable[..., "Trained"], job: Job) -> Future:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.process = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self.row, self.threads))
        return self.process.submit(train, *job)

    def close(self) -> None:
        if self.process:
            self.process.shutdown(wait=False, cancel_futures=True)
        self.process = None


def _begin(row: int, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    cli.ROW = row
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _in_a_slot(slots: queue.SimpleQueue, train: Callable[..., "Trained"], job: Job) -> "Trained | Exception":
    slot = slots.get()
    try:
        return slot.submit(train, job).result()
    except BrokenProcessPool:
        slot.close()
        return RuntimeError("its process was killed, as it is when memory runs out")
    except FAILURES as error:
        return error
    finally:
        slots.put(slot)


def _outcome(train: Callable[..., "Trained"], job: Job) -> "Trained | Exception":
    try:
        return train(*job)
    except FAILURES as error:
        return error


def _finished(finished: Callable[[Job], bool], job: Job) -> bool:
    """A job that cannot even be looked up is tried in a process, which then says why."""
    try:
        return finished(job)
    except FAILURES:
        return False
