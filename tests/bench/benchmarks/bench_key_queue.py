"""Time, memory and loss of the queue of momentum keys by backend; see conftest.py for the command.

    dense     models.momentum.KeyQueue with whole keys, in a matrix (H, V)
    sparse    the same with the top-k lexicons of a key, in 4 bytes each

The queue is filled with generated keys, then takes and scores one more batch, forward and backward through InfoNCE,
in float32. Keys are Gaussian weights cut so that `active` of the lexicons remain; some lexicons are more popular
than others, so that keys overlap as those of a model do. A query is its key with noise. Goal at the default size: a
twentieth of the memory at the same loss within 1e-3.
"""

import statistics
import time
from dataclasses import dataclass

import pytest
import torch
from scipy.stats import norm
from torch.nn import functional as F

from bench.store.machine import OtherWork
from models.losses import info_nce
from models.momentum import KeyQueue

BACKENDS = ("dense", "sparse")
CODE = ("models.momentum", "models.losses")
TEMPERATURE = 0.05  # as published
POPULARITY = 1.5  # standard deviation of the part that all keys share, relative to their own part
NOISE = 1.5  # standard deviation of a query around its key


@dataclass(frozen=True)
class Shape:
    """Keys of a batch and of the queue, lexicons, share of them active in a key, top-k of a sparse key."""

    batch: int = 256
    queue: int = 11_520
    lexicons: int = 30_522
    active: float = 0.01
    top_k: int = 512


class Queue:
    """A queue on this machine's device, the batches that it is given, and one scoring step."""

    def __init__(self, shape: Shape, backend: str, threads: int):
        torch.set_num_threads(threads)
        self.shape, self.device = shape, "cuda" if torch.cuda.is_available() else "cpu"
        self.generator = torch.Generator().manual_seed(0)
        self.popularity_V = POPULARITY * torch.randn(shape.lexicons, generator=self.generator)
        self.threshold = norm.isf(shape.active) * (1 + POPULARITY**2) ** 0.5
        top_k = shape.top_k if backend == "sparse" else None
        self.queue = KeyQueue(shape.queue, shape.lexicons, top_k).to(self.device)
        self.pushes: list[float] = []
        self.scores: list[float] = []

    def raw(self) -> torch.Tensor:
        """Gaussian weights of a batch, before the cut: (B, V)."""
        noise_BV = torch.randn(self.shape.batch, self.shape.lexicons, generator=self.generator)
        return noise_BV + self.popularity_V

    def weights(self, raw_BV: torch.Tensor) -> torch.Tensor:
        """Non-negative, L2-normalised weights."""
        return F.normalize(torch.relu(raw_BV - self.threshold), dim=1).to(self.device)

    def fill(self) -> None:
        """Pushes batches until the queue is full, and draws the batch to score."""
        for _ in range(-(-self.shape.queue // self.shape.batch)):
            keys_BV = self.weights(self.raw())
            began = self.now()
            self.queue.push(keys_BV)
            self.pushes.append(self.now() - began)
        raw_BV = self.raw()
        self.keys_BV, noise_BV = self.weights(raw_BV), NOISE * torch.randn(raw_BV.shape, generator=self.generator)
        self.noisy_BV = raw_BV + noise_BV

    def score(self) -> float:
        """Loss of the batch against its own keys and the queue's, forward and backward."""
        queries_BV = self.weights(self.noisy_BV).requires_grad_()
        began = self.now()
        loss = info_nce(queries_BV, self.keys_BV, TEMPERATURE, self.queue.scores(queries_BV))
        loss.backward()
        self.scores.append(self.now() - began)
        return loss.item()

    def values(self, loss: float) -> dict[str, float]:
        """The metrics of the record; the first score was the warm-up."""
        return {
            "queue_push_seconds": statistics.median(self.pushes),
            "queue_score_seconds": statistics.median(self.scores[1:]),
            "queue_bytes": sum(buffer.nbytes for buffer in self.queue.buffers()),
            "queue_active": float((self.keys_BV > 0).sum(dim=1).float().mean()),
            "queue_loss": loss,
        }

    def now(self) -> float:
        """Seconds, after all work queued on the GPU has finished."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@pytest.mark.parametrize("backend", BACKENDS)
def test_key_queue(backend, workload, benchmark):
    shape, threads, repeats, write = workload("key_queue", backend, Shape, CODE)
    queue = Queue(shape, backend, threads)
    with OtherWork() as other:
        queue.fill()
        loss = benchmark.pedantic(queue.score, rounds=repeats, warmup_rounds=1)
    values = queue.values(loss)
    benchmark.extra_info.update(values)
    write(values, note=other.note())
