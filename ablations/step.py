"""One step of the optimiser: the losses, their gradient over all processes and micro-batches, clipping, the update."""

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ablations.config import TrainConfig
from models.distributed import average_gradients, mean
from models.objective import Batch, Losses, Objective


def learning_rate(step: int, train: TrainConfig) -> float:
    """Of a step: within its phase, linear warm-up to the phase's rate, then linear decay to 0."""
    phase, start, end = next(row for row in train.schedule() if step < row[2])
    warmup = max(round(train.warmup * (end - start)), 1)
    return phase.lr * min((step - start + 1) / warmup, (end - step) / max(end - start - warmup, 1))


def optimiser(objective: torch.nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW; no weight decay on biases, LayerNorm and other vectors and scalars."""
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
        Of the global batch, without gradient: the loss, its parts, what the objective tells beside, the norm of the gradient before clipping.
    """
    for group in adam.param_groups:
        group["lr"] = rate
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    adam.zero_grad(set_to_none=True)
    if train.micro_batch and train.micro_batch < len(batch.tokens_BL):
        losses, beside = _backward_in_parts(objective, batch, generator, precision, train.micro_batch)
    else:
        losses, beside = _backward(objective, batch, generator, precision)
    average_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, train.clip)
    adam.step()
    objective.after_step()
    parts = {f"loss_{part}": value for part, value in losses.items()}
    values = {"loss": _sum(losses), **parts, **beside, "gradient_norm": norm}
    return dict(zip(values, mean(torch.stack([value.detach() for value in values.values()])).unbind(), strict=True))


def _backward(
    objective: Objective, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Losses, Losses]:
    """The losses of a batch and what is worth logging; their gradient is in the parameters."""
    with _compute(batch, precision):
        losses, beside = objective.losses(batch, generator)
        _sum(losses).backward()
    return losses, beside


def _backward_in_parts(
    objective: Objective, batch: Batch, generator: torch.Generator, precision: torch.dtype, size: int
) -> tuple[Losses, Losses]:
    """The same as `_backward`, with the activations of `size` pairs at a time (GradCache; Gao et al., 2021, arXiv 2101.06983).

    First all vectors without a graph, then the gradient of the contrasts with respect to them, then each part again with its graph, going
    back from those gradients. Costs one more forward pass. Trap: both passes must give the same vectors, so nothing in them is random.

    Each pass has its own autocast: weights cast without gradient are cached to its end, and would have none in the next pass.
    """
    parts = objective.draw(batch, generator).split(size)
    with _compute(batch, precision), torch.no_grad():
        sides = [
            torch.cat(side).requires_grad_() for side in zip(*(objective.vectors(part) for part in parts), strict=True)
        ]
        keys = tuple(torch.cat(side) for side in zip(*(objective.keys(part) for part in parts), strict=True))
    with _compute(batch, precision):
        contrasts, beside = objective.contrast(tuple(sides), keys)
        if contrasts:
            _sum(contrasts).backward()
    gradients = [torch.zeros_like(side) if side.grad is None else side.grad for side in sides]
    losses: Losses = {}
    for part, *gradients_of_part in zip(parts, *(gradient.split(size) for gradient in gradients), strict=True):
        with _compute(batch, precision):
            vectors, added = objective.encode(part)
            going_back = [
                (side_bX * gradient_bX).sum() for side_bX, gradient_bX in zip(vectors, gradients_of_part, strict=True)
            ]
            torch.stack([*added.values(), *going_back]).sum().backward()
        losses = {name: losses.get(name, 0.0) + value.detach() for name, value in added.items()}
    return losses | contrasts, beside


def _sum(losses: Losses) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def _compute(batch: Batch, precision: torch.dtype) -> contextlib.AbstractContextManager:
    """Autocast; and on a CPU plain attention, since the fused kernel's bfloat16 backward is the slower one at these sizes."""
    stack, device = contextlib.ExitStack(), batch.images_BHWC.device.type
    stack.enter_context(torch.autocast(device, precision, enabled=precision is not torch.float32))
    if device == "cpu" and precision is not torch.float32:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack
