"""The processes of one training run: each holds its slice of every batch, and computes a loss whose mean over processes is the batch's.

Notable choices
- What a loss needs of the other slices comes by `gather` and `mean`, which keep the gradient. The gradient of each parameter, averaged
  over the processes (`average_gradients`), is then that of the global batch, however many there are.
- Without a process group, or alone in one, every function here is the identity.
- All slices have the same size, in the order of the ranks. All processes call these functions in the same order.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import distributed

BUCKET = 2**24
"""Gradients sent at a time: 64 MB in float32, so that no copy of all of them is held."""


def world() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def rows(size: int) -> slice:
    """The rows of the global batch that are this process's slice of `size` rows."""
    return slice(rank() * size, (rank() + 1) * size)


def gather(slice_BX: torch.Tensor) -> torch.Tensor:
    """The slices of all processes, one below the other, (N, ...); its gradient is the sum over processes of those of the own slice.

    Trap: B and all other dimensions must be the same on every process.
    """
    return slice_BX if world() == 1 else _Gather.apply(slice_BX)


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over processes of a tensor that each has, of one shape; its gradient is the mean over processes, too."""
    return tensor if world() == 1 else _Mean.apply(tensor)


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes. Call once per step, after all backward passes and before clipping.

    Parameters without a gradient are left alone: they must be the same ones on every process.
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
