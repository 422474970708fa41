"""Time, memory and loss of the queue of momentum keys, dense and sparse, as records: `python -m bench.tasks.parts.key_queue`.

    dense     models.momentum.KeyQueue with every key whole, in a matrix (H, V)
    sparse    the same with the highest lexicons of a key alone, in 4 bytes each (`top_k`)

Each is filled with generated keys, then takes and scores one batch more, forward and backward through InfoNCE, in a process of its own. Keys are
Gaussian weights cut so that `active` of the lexicons are left, some lexicons more popular than others, so that keys overlap as those of a model do; a
query is its key with noise. The goal at the size given by default is a twentieth of the memory at the same loss within 1e-3. The queue is computed in
float32, as `models.momentum` does.
"""

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from torch.nn import functional as F

from bench.store import cli
from bench.store.machine import OtherWork
from bench.tasks.parts import parts
from models.losses import info_nce
from models.momentum import KeyQueue

TEMPERATURE = 0.05  # as published
POPULARITY = 1.5  # standard deviation of what all keys share, beside 1 of what they do not
NOISE = 1.5  # of a query about its key


@dataclass(frozen=True)
class Shape:
    """Keys of a batch and of the queue, lexicons of the vocabulary, share of them active in a key, lexicons kept of a sparse key."""

    batch: int = 256
    queue: int = 11_520
    lexicons: int = 30_522
    active: float = 0.01
    top_k: int = 512


def measure(request: dict) -> dict:
    """One way at one shape, in this process: seconds to take and to score a batch (median), bytes of the queue, and the loss."""
    shape, device = Shape(**request["shape"]), parts.device()
    torch.set_num_threads(request["threads"])
    generator = torch.Generator().manual_seed(0)
    popularity_V = POPULARITY * torch.randn(shape.lexicons, generator=generator)
    threshold = norm.isf(shape.active) * (1 + POPULARITY**2) ** 0.5

    def drawn() -> torch.Tensor:
        return torch.randn(shape.batch, shape.lexicons, generator=generator) + popularity_V

    def weights(raw_BV: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.relu(raw_BV - threshold), dim=1).to(device)

    queue = KeyQueue(shape.queue, shape.lexicons, shape.top_k if request["way"] == "sparse" else None).to(device)
    pushes, scores = [], []
    with OtherWork() as other:
        for _ in range(-(-shape.queue // shape.batch)):
            keys_BV = weights(drawn())
            began = parts.now()
            queue.push(keys_BV)
            pushes.append(parts.now() - began)
        raw_BV = drawn()
        keys_BV, noise_BV = weights(raw_BV), NOISE * torch.randn(raw_BV.shape, generator=generator)
        for _ in range(request["repeats"] + 1):  # the first warms up
            queries_BV = weights(raw_BV + noise_BV).requires_grad_()
            began = parts.now()
            loss = info_nce(queries_BV, keys_BV, TEMPERATURE, queue.scores(queries_BV))
            loss.backward()
            scores.append(parts.now() - began)
    return {
        "queue_push_seconds": float(np.median(pushes)),
        "queue_score_seconds": float(np.median(scores[1:])),
        "queue_bytes": sum(buffer.nbytes for buffer in queue.buffers()),
        "queue_active": float((keys_BV > 0).sum(dim=1).float().mean()),
        "queue_loss": loss.item(),
        "note": other.note(),
    }


def line(values: pd.Series) -> str:
    push, score, size = values["queue_push_seconds"], values["queue_score_seconds"], values["queue_bytes"]
    return f"push {1e3 * push:9.2f} ms   score {1e3 * score:9.2f} ms   {size / 2**20:8.1f} MiB   loss {values['queue_loss']:.5f}"


PART = parts.Part(
    "key_queue",
    ("dense", "sparse"),
    Shape,
    {
        "batch": "keys that are taken and queries that are scored at once",
        "queue": "keys that it holds",
        "lexicons": "of the vocabulary",
        "active": "share of the lexicons that a key has",
        "top_k": "lexicons kept of a sparse key",
    },
    ("bench.tasks.parts.key_queue", "models.momentum", "models.losses"),
    line,
)


if __name__ == "__main__":
    sys.exit(cli.run(PART.main, PART.parser("Time, memory and loss of the queue of momentum keys, dense and sparse.")))
