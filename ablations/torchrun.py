"""The processes of a run under torchrun: which one writes, how they wait for each other, how a failure ends all
with one line.

Only the first process (rank 0) writes data, checkpoints, states and records. All processes read the same home; on
several machines it must be on a shared file system. Without torchrun nothing here imports torch.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from ablations.hardware import has_gpu
from bench.store.cli import BAD_INPUT
from models.errors import InputError

if TYPE_CHECKING:
    from torch import distributed

TIMEOUT = timedelta(days=7)
"""Time to wait for other processes, which may render a corpus. A dead process is noticed by its connections."""

FAILED = "failed"
"""Key of torchrun's store: the number of processes that have failed."""


def launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world() -> int:
    """The number of processes of this run."""
    if not launched():
        return 1
    from models.distributed import world

    return world()


def is_first() -> bool:
    """Whether this process is the one that writes: rank 0, or the only one."""
    if not launched():
        return True
    from models.distributed import rank

    return rank() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins torchrun's process group, on the GPU of the local rank if there are GPUs; does nothing without torchrun.

    When processes fail, the first one to fail reports why; those that fail because another one is gone exit silently.

    Raises:
        InputError: more processes on a machine than GPUs.
        ConnectionError: another process died without a report.
    """
    if not launched():
        yield
        return
    from torch import distributed

    store, rank, count = next(distributed.rendezvous("env://"))
    try:
        _join(store, rank, count)
        yield
    except Exception as error:
        gloo_failed = isinstance(error, RuntimeError) and "gloo" in str(error)
        lost_another = isinstance(error, distributed.DistError) or gloo_failed
        if _fails_first(store):
            if lost_another:
                raise ConnectionError(
                    f"process {rank} of {count}: another process ended, so this one stops; start again to resume"
                ) from None
            raise
        if lost_another or isinstance(error, InputError | OSError):
            raise SystemExit(BAD_INPUT) from None
        raise
    distributed.destroy_process_group()


def barrier() -> None:
    """Waits until all processes have called it."""
    if world() > 1:
        import torch
        from torch import distributed

        distributed.all_reduce(torch.zeros(1))  # on the CPU by gloo, which notices at once when a process ends


@contextlib.contextmanager
def first_then_others() -> Iterator[None]:
    """The first process runs the block; the others run it afterwards."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def check_equal(name: str, value: str) -> None:
    """Raises InputError unless `value`, of one length everywhere, is the same on all processes."""
    if world() == 1:
        return
    import torch

    from models.distributed import gather, rank

    values_NL = gather(torch.tensor([list(value.encode())], dtype=torch.uint8))
    for number, other_L in enumerate(values_NL.tolist()):
        if bytes(other_L) != value.encode():
            raise InputError(
                f"{name} is {value} on process {rank()}, but {bytes(other_L).decode()} on process {number}: "
                "expected the same code, settings, data and precision on all machines"
            )


def cpu_seconds(own: float) -> tuple[float, float]:
    """CPU seconds of all processes, and of the others on the first one's machine; `own` are those of this process."""
    if world() == 1:
        return own, 0.0
    import torch

    from models.distributed import gather

    seconds = gather(torch.tensor([own], dtype=torch.float64)).tolist()
    return sum(seconds), sum(seconds[1 : int(os.environ.get("LOCAL_WORLD_SIZE", 1))])


def _join(store: "distributed.Store", rank: int, count: int) -> None:
    import torch
    from torch import distributed

    backend = "gloo"
    if has_gpu():
        local, gpus, backend = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count(), "cpu:gloo,cuda:nccl"
        if local >= gpus:
            raise InputError(
                f"process {local} of this machine has no GPU: there are {gpus}; "
                f"expected --nproc-per-node {gpus} or fewer"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=TIMEOUT)
    if rank:
        logging.disable(logging.INFO)  # only the first process logs


def _fails_first(store: "distributed.Store") -> bool:
    from torch import distributed

    try:
        return store.add(FAILED, 1) == 1
    except distributed.DistError:  # the machine that held the store is gone
        return True
