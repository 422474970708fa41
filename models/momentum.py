"""Momentum encoders and the queue of their keys (phase 2; He et al., 2020; Luo et al., 2023)."""

import copy

import torch
from torch import nn


class Momentum(nn.Module):
    """An exponential moving average of a module, without gradient.

    Make it *after* the module has its phase-1 weights: it starts as their copy. Call `update` once per optimiser step.
    """

    def __init__(self, module: nn.Module, decay: float):
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """average = decay * average + (1 - decay) * source, for parameters; buffers are copied."""
        averages = list(self.module.parameters())
        torch._foreach_lerp_(averages, list(source.parameters()), 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), source.buffers(), strict=True):
            average.copy_(buffer)


class KeyQueue(nn.Module):
    """The latest `length` keys, first in first out. Starts empty; only filled slots are negatives; wraps exactly."""

    def __init__(self, length: int, width: int):
        super().__init__()
        self.register_buffer("keys_HX", torch.zeros(length, width))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @property
    def length(self) -> int:
        return len(self.keys_HX)

    def filled(self) -> torch.Tensor:
        """The keys present, (min(pushed, length), X); their order has no meaning."""
        return self.keys_HX[: min(int(self.pushed), self.length)]

    @torch.no_grad()
    def push(self, keys_BX: torch.Tensor) -> None:
        """Add a batch; the oldest keys give way. A batch longer than the queue leaves its last `length` keys."""
        kept_BX = keys_BX[max(len(keys_BX) - self.length, 0) :]
        first = int(self.pushed) + len(keys_BX) - len(kept_BX)
        slots_B = (first + torch.arange(len(kept_BX), device=self.keys_HX.device)) % max(self.length, 1)
        self.keys_HX[slots_B] = kept_BX.to(self.keys_HX.dtype)
        self.pushed += len(keys_BX)
