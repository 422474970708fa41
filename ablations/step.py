"""One optimiser step: losses, gradient over all processes and micro-batches, clipping, update."""

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ablations.config import TrainConfig
from models.batch import Batch
from models.distributed import average_gradients, mean
from models.objective import Losses, Objective


def learning_rate(step: int, train: TrainConfig) -> float:
    """The learning rate of a step: in each phase a linear warm-up to the phase's rate, then a linear decay to 0."""
    phase, start, end = next(row for row in train.schedule() if step < row[2])
    warmup = max(round(train.warmup * (end - start)), 1)
    return phase.lr * min((step - start + 1) / warmup, (end - step) / max(end - start - warmup, 1))


def optimiser(objective: torch.nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW, without weight decay on biases, LayerNorm weights and other vectors and scalars."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=train.betas)


def take_step(
    objective: Objective,
    batch: Batch,
    generator: torch.Generator,
    adam: torch.optim.Optimizer,
    rate: float,
    precision: torch.dtype,
    train: TrainConfig,
) -> Losses:
    """One step on this process's slice of a batch.

    Returns:
        Scalars of the global batch, without gradient: the loss, its parts, further values of the objective, the
        gradient's norm before clipping.
    """
    for group in adam.param_groups:
        group["lr"] = rate
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    adam.zero_grad(set_to_none=True)
    if train.micro_batch and train.micro_batch < len(batch.tokens_BL):
        losses, extra = _backward_in_parts(objective, batch, generator, precision, train.micro_batch)
    else:
        losses, extra = _backward(objective, batch, generator, precision)
    average_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, train.clip)
    adam.step()
    objective.after_step()
    parts = {f"loss_{part}": value for part, value in losses.items()}
    values = {"loss": _sum(losses), **parts, **extra, "gradient_norm": norm}
    return dict(zip(values, mean(torch.stack([value.detach() for value in values.values()])).unbind(), strict=True))


def _backward(
    objective: Objective, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Losses, Losses]:
    """The losses of a batch and further values to log; the gradient is added to the parameters."""
    with _compute(batch, precision):
        losses, extra = objective.losses(batch, generator)
        _sum(losses).backward()
    return losses, extra


def _backward_in_parts(
    objective: Objective, batch: Batch, generator: torch.Generator, precision: torch.dtype, size: int
) -> tuple[Losses, Losses]:
    """`_backward` with the activations of only `size` pairs in memory (GradCache; Gao et al., 2021, arXiv 2101.06983).

    Three stages: all vectors without a graph; the gradient of the contrastive losses with respect to the vectors; a
    second forward pass of each part with its graph, and its backward pass from those gradients. Costs one more
    forward pass.

    Traps: both passes must give the same vectors, so they contain no randomness. Each pass has an autocast context
    of its own, because autocast caches weights that were cast without gradient until its end.
    """
    parts = objective.draw(batch, generator).split(size)
    with _compute(batch, precision), torch.no_grad():
        sides = [
            torch.cat(side).requires_grad_() for side in zip(*(objective.vectors(part) for part in parts), strict=True)
        ]
        keys = tuple(torch.cat(side) for side in zip(*(objective.keys(part) for part in parts), strict=True))
    with _compute(batch, precision):
        contrasts, extra = objective.contrast(tuple(sides), keys)
        if contrasts:
            _sum(contrasts).backward()
    gradients = [torch.zeros_like(side) if side.grad is None else side.grad for side in sides]
    losses: Losses = {}
    for part, *gradients_of_part in zip(parts, *(gradient.split(size) for gradient in gradients), strict=True):
        with _compute(batch, precision):
            vectors, added = objective.encode(part)
            of_contrasts = [
                (side_bX * gradient_bX).sum() for side_bX, gradient_bX in zip(vectors, gradients_of_part, strict=True)
            ]
            torch.stack([*added.values(), *of_contrasts]).sum().backward()
        losses = {name: losses.get(name, 0.0) + value.detach() for name, value in added.items()}
    return losses | contrasts, extra


def _sum(losses: Losses) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def _compute(batch: Batch, precision: torch.dtype) -> contextlib.AbstractContextManager:
    """Autocast; on a CPU with unfused attention, whose bfloat16 backward pass is faster at these sizes."""
    stack, device = contextlib.ExitStack(), batch.tokens_BL.device.type
    stack.enter_context(torch.autocast(device, precision, enabled=precision is not torch.float32))
    if device == "cpu" and precision is not torch.float32:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack
