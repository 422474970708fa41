"""Momentum encoders and the queue of their keys (phase 2; He et al., 2020; Luo et al., 2023)."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


class Momentum(nn.Module):
    """An exponential moving average of a module, without gradient.

    Make it *after* the module has its phase-1 weights: it starts as their copy. Call `update` once per optimiser step; it moves the
    average `updates` times (the official code does so per micro-batch).
    """

    def __init__(self, module: nn.Module, decay: float, updates: int = 1):
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay**updates

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """average = decay * average + (1 - decay) * source, for parameters; buffers are copied."""
        averages = list(self.module.parameters())
        torch._foreach_lerp_(averages, list(source.parameters()), 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), source.buffers(), strict=True):
            average.copy_(buffer)


class KeyQueue(nn.Module):
    """The latest `length` keys, first in first out. Starts empty; only filled slots are negatives; wraps exactly.

    Keys are held dense, or with `top_k` as their highest entries alone, in 4 bytes each (place int16, weight float16): 30,522 lexicons by
    11,520 keys are 1.41 GB dense and 24 MB at 512 kept. `noise` starts it full of signed Gaussian unit keys instead, as the official
    code does (dense only).
    """

    def __init__(self, length: int, width: int, top_k: int | None = None, noise: bool = False):
        super().__init__()
        self.length, self.width, self.top_k = length, width, min(top_k, width) if top_k else None
        if self.top_k:
            if width > torch.iinfo(torch.int16).max:
                raise ValueError(f"keys of {width} entries: expected at most {torch.iinfo(torch.int16).max}")
            self.register_buffer("places_HK", torch.zeros(length, self.top_k, dtype=torch.int16))
            self.register_buffer("weights_HK", torch.zeros(length, self.top_k, dtype=torch.float16))
        else:
            self.register_buffer(
                "keys_HX", F.normalize(torch.randn(length, width), dim=-1) if noise else torch.zeros(length, width)
            )
        self.register_buffer("pushed", torch.tensor(length if noise else 0))

    @property
    def count(self) -> int:
        """Keys present."""
        return min(int(self.pushed), self.length)

    def filled(self) -> torch.Tensor:
        """The keys present, dense (count, X); their order has no meaning."""
        if not self.top_k:
            return self.keys_HX[: self.count]
        places_HK, weights_HK = self.places_HK[: self.count].long(), self.weights_HK[: self.count].float()
        return weights_HK.new_zeros(self.count, self.width).scatter_(1, places_HK, weights_HK)

    def scores(self, queries_BX: torch.Tensor) -> torch.Tensor:
        """The products of queries with the keys present, (B, count)."""
        if not self.top_k:
            return queries_BX @ self.filled().T
        starts = torch.arange(0, self.count * self.top_k + 1, self.top_k, device=queries_BX.device)
        places, weights = self.places_HK[: self.count].long().flatten(), self.weights_HK[: self.count].float().flatten()
        keys_HX = torch.sparse_csr_tensor(starts, places, weights, (self.count, self.width), check_invariants=False)
        with torch.autocast(queries_BX.device.type, enabled=False):
            return (keys_HX @ queries_BX.float().T).T

    @torch.no_grad()
    def push(self, keys_BX: torch.Tensor) -> None:
        """Add a batch; the oldest keys give way. A batch longer than the queue leaves its last `length` keys."""
        kept_BX = keys_BX[max(len(keys_BX) - self.length, 0) :]
        first = int(self.pushed) + len(keys_BX) - len(kept_BX)
        slots_B = (first + torch.arange(len(kept_BX), device=self.pushed.device)) % max(self.length, 1)
        if self.top_k:
            places_BK = (
                kept_BX.topk(self.top_k, dim=1).indices.sort(dim=1).values
            )  # sorted, as the rows of a sparse matrix are
            weights_BK = kept_BX.gather(1, places_BK)
            self.places_HK[slots_B], self.weights_HK[slots_B] = places_BK.to(torch.int16), weights_BK.to(torch.float16)
        else:
            self.keys_HX[slots_B] = kept_BX.to(self.keys_HX.dtype)
        self.pushed += len(keys_BX)
