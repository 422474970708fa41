"""The processes of a run that torchrun starts: who goes first, who waits, and how one that fails ends all with one line.

The first process (rank 0) alone writes data, checkpoints, states and records. All read them from the same home, so on several machines
the home lies on a file system that they share.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import distributed

from bench.store import cli
from models.distributed import gather, rank, world
from models.errors import InputError

PATIENCE = timedelta(days=7)
"""That a process waits for others, which may render a corpus meanwhile. One that ended is noticed by its connections, not by this."""

FAILED = "failed"
"""Key of the store that all share: how many processes have failed."""


def is_first() -> bool:
    """Whether this process is the one that writes; the only one is."""
    return rank() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the others that torchrun started, on the GPU of the own local rank where there are any; without torchrun, nothing.

    Of all processes that fail, and of those that then fail for want of them, the first alone says why.

    Raises:
        InputError: more processes on a machine than GPUs.
        ConnectionError: another process ended without a word.
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    store, number, count = next(distributed.rendezvous("env://"))
    try:
        _join(store, number, count)
        yield
    except Exception as error:
        for_want_of_another = isinstance(error, distributed.DistError) or (
            isinstance(error, RuntimeError) and "gloo" in str(error)
        )
        if _fails_first(store):
            if for_want_of_another:
                raise ConnectionError(
                    f"process {number} of {count}: another process ended, so this one stops; start again to go on"
                ) from None
            raise
        if for_want_of_another or isinstance(error, InputError | OSError):
            raise SystemExit(cli.BAD_INPUT) from None
        raise
    distributed.destroy_process_group()


def barrier() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        distributed.all_reduce(torch.zeros(1))  # on the CPU, by gloo, which notices at once when another process ends


@contextlib.contextmanager
def first_then_others() -> Iterator[None]:
    """The first process runs the block, and when it is through, the others do."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def agree(what: str, value: str) -> None:
    """Raise InputError where `value` is another one on another process; it has the same length on all."""
    values_NL = gather(torch.tensor([list(value.encode())], dtype=torch.uint8))
    for number, other_L in enumerate(values_NL.tolist()):
        if bytes(other_L) != value.encode():
            raise InputError(
                f"{what} is {value} on process {rank()}, but {bytes(other_L).decode()} on process {number}: "
                "expected the same code, settings, data and precision on all machines"
            )


def cpu_seconds(own: float) -> tuple[float, float]:
    """CPU seconds of all processes, and of the others beside the first on its machine, where each spent `own`."""
    seconds = gather(torch.tensor([own], dtype=torch.float64)).tolist()
    return sum(seconds), sum(seconds[1 : int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world() > 1 else 1])


def _join(store: distributed.Store, number: int, count: int) -> None:
    backend = "gloo"
    if torch.cuda.is_available():
        local, gpus, backend = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count(), "cpu:gloo,cuda:nccl"
        if local >= gpus:
            raise InputError(
                f"process {local} of this machine has no GPU: there are {gpus}; expected --nproc-per-node {gpus} or fewer"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group(backend, store=store, rank=number, world_size=count, timeout=PATIENCE)
    if number:
        logging.disable(logging.INFO)  # the first speaks for all


def _fails_first(store: distributed.Store) -> bool:
    try:
        return store.add(FAILED, 1) == 1
    except distributed.DistError:  # the store went with the machine that held it: nobody can be asked
        return True
