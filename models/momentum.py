"""Momentum encoders and the queue of their keys, for phase 2 (MoCo, He et al., 2020; Luo et al., 2023)."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from models.towers.frozen import frozen_modules

MOST_ENTRIES = torch.iinfo(torch.int16).max
"""Entries of a key that a sparse queue can index."""


def copy_but_frozen(module: nn.Module) -> nn.Module:
    """A deep copy that shares the frozen encoders of the module."""
    return copy.deepcopy(module, {id(frozen): frozen for frozen in frozen_modules(module)})


class Momentum(nn.Module):
    """Exponential moving average of a module, in eval mode and without gradient. Frozen encoders are shared.

    The average starts as a copy of the module, so create it after phase 1. `update` moves it `updates` times (the
    official code updates once per micro-batch); call it once per optimiser step.
    """

    def __init__(self, module: nn.Module, decay: float, updates: int = 1):
        super().__init__()
        self.module = copy_but_frozen(module).requires_grad_(False).eval()
        self.decay = decay**updates

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """average = decay * average + (1 - decay) * source, for parameters; buffers are copied."""
        pairs = zip(self.module.parameters(), source.parameters(), strict=True)
        averages, values = zip(*(pair for pair in pairs if pair[0] is not pair[1]), strict=True)
        torch._foreach_lerp_(averages, values, 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), source.buffers(), strict=True):
            if average is not buffer:
                average.copy_(buffer)


class KeyQueue(nn.Module):
    """A first-in-first-out queue of the latest `length` keys, each of `width` entries. Only filled slots are negatives.

    Args:
        top_k: store only the highest entries of a key, in 4 bytes each (index int16, weight float16); None: dense
            float32. 11,520 keys of 30,522 lexicons take 1.41 GB dense and 24 MB with 512 entries.
        noise: start full of signed Gaussian unit vectors, as the official code does, instead of empty. Dense only.
    """

    def __init__(self, length: int, width: int, top_k: int | None = None, noise: bool = False):
        super().__init__()
        self.length, self.width, self.top_k = length, width, min(top_k, width) if top_k else None
        if self.top_k:
            if width > MOST_ENTRIES:
                raise ValueError(f"keys of {width} entries: expected at most {MOST_ENTRIES}")
            self.register_buffer("places_HK", torch.zeros(length, self.top_k, dtype=torch.int16))
            self.register_buffer("weights_HK", torch.zeros(length, self.top_k, dtype=torch.float16))
        else:
            start_HX = F.normalize(torch.randn(length, width), dim=-1) if noise else torch.zeros(length, width)
            self.register_buffer("keys_HX", start_HX)
        self.register_buffer("pushed", torch.tensor(length if noise else 0))

    @property
    def count(self) -> int:
        """Number of keys in the queue."""
        return min(int(self.pushed), self.length)

    def filled(self) -> torch.Tensor:
        """The keys in the queue as a dense (count, X) tensor, in no particular order."""
        if not self.top_k:
            return self.keys_HX[: self.count]
        places_HK, weights_HK = self.places_HK[: self.count].long(), self.weights_HK[: self.count].float()
        return weights_HK.new_zeros(self.count, self.width).scatter_(1, places_HK, weights_HK)

    def scores(self, queries_BX: torch.Tensor) -> torch.Tensor:
        """Dot products of queries with the keys in the queue, (B, count)."""
        if not self.top_k:
            return queries_BX @ self.filled().T
        starts = torch.arange(0, self.count * self.top_k + 1, self.top_k, device=queries_BX.device)
        places, weights = self.places_HK[: self.count].long().flatten(), self.weights_HK[: self.count].float().flatten()
        keys_HX = torch.sparse_csr_tensor(starts, places, weights, (self.count, self.width), check_invariants=False)
        with torch.autocast(queries_BX.device.type, enabled=False):
            return (keys_HX @ queries_BX.float().T).T

    @torch.no_grad()
    def push(self, keys_BX: torch.Tensor) -> None:
        """Adds a batch in place of the oldest keys. Of a longer batch than the queue, the last ones are added."""
        last_BX = keys_BX[max(len(keys_BX) - self.length, 0) :]
        first = int(self.pushed) + len(keys_BX) - len(last_BX)
        slots_B = (first + torch.arange(len(last_BX), device=self.pushed.device)) % max(self.length, 1)
        if self.top_k:
            # sorted, because a sparse matrix has sorted rows
            places_BK = last_BX.topk(self.top_k, dim=1).indices.sort(dim=1).values
            weights_BK = last_BX.gather(1, places_BK)
            self.places_HK[slots_B], self.weights_HK[slots_B] = places_BK.to(torch.int16), weights_BK.to(torch.float16)
        else:
            self.keys_HX[slots_B] = last_BX.to(self.keys_HX.dtype)
        self.pushed += len(keys_BX)
