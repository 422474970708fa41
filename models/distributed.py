"""Data-parallel training: each process has a slice of every batch; the mean of the losses is that of the global batch.

Notable choices
- A loss gets data of the other slices by `gather` and `mean`, which keep the gradient. The gradient of a parameter,
  averaged over the processes (`average_gradients`), therefore equals that of the global batch for any number of
  processes.
- Without a process group, or with one process, every function is the identity.
- All slices have the same size, in the order of the ranks. All processes call these functions in the same order.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import distributed

BUCKET = 2**24
"""Gradient values per message: 64 MB in float32, which avoids a copy of all gradients at once."""


def world() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The index of this process."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def rows(size: int) -> slice:
    """Position of this process's slice of `size` rows in the global batch."""
    return slice(rank() * size, (rank() + 1) * size)


def gather(slice_BX: torch.Tensor) -> torch.Tensor:
    """Concatenates the slices of all processes to (N, ...). The gradient of a slice is summed over the processes.

    Trap: all dimensions, B included, must be the same on every process.
    """
    return slice_BX if world() == 1 else _Gather.apply(slice_BX)


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """Mean over the processes of a tensor of one shape. The gradient is the mean over the processes as well."""
    return tensor if world() == 1 else _Mean.apply(tensor)


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the processes. Call once per step, after backward and before clipping.

    Trap: parameters without a gradient are skipped; they must be the same ones on every process.
    """
    if world() == 1:
        return
    for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        flat = mean(torch.cat([gradient.flatten() for gradient in bucket]))
        for gradient, averaged in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(averaged.view_as(gradient))


def _buckets(gradients: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket, size = [], 0
    for gradient in gradients:
        if bucket and (size + gradient.numel() > BUCKET or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, slice_BX):
        all_NX = slice_BX.new_empty(world() * len(slice_BX), *slice_BX.shape[1:])
        distributed.all_gather_single(all_NX, slice_BX.contiguous())
        return all_NX

    @staticmethod
    def backward(ctx, gradient_NX):
        gradient_BX = gradient_NX.new_empty(len(gradient_NX) // world(), *gradient_NX.shape[1:])
        distributed.reduce_scatter_single(gradient_BX, gradient_NX.contiguous())
        return gradient_BX


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return _mean(tensor)

    @staticmethod
    def backward(ctx, gradient):
        return _mean(gradient)


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / world()
