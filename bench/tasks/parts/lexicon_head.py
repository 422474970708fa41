"""Time and memory of the lexicon head, computed in several ways, as records: `python -m bench.tasks.parts.lexicon_head`.

    plain            linear over all tokens, then max: holds the (B, L, V) logits and their gradient
    plain_compiled   the same through torch.compile
    tiled            models.lexicon.max_linear: a tile of logits at a time, sparse products backward
    tiled_compiled   the same inside torch.compile
    triton           models.lexicon.max_linear_triton: kernels for a GPU; recorded as absent, with the reason, where they cannot run
    triton_compiled  the same inside torch.compile

Each is measured in a process of its own, forward and backward of log(1 + ReLU(max)), on random states and weights whose bias leaves about 1%
of the lexicons of an item active, as a trained head does; the goal of the size given by default is Sparton's (arXiv 2603.25011).
"""

import functools
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from bench.store import cli
from bench.store.machine import OtherWork
from bench.tasks.parts import parts
from models.lexicon.max_linear import TRITON, max_linear

WAYS = ("plain", "plain_compiled", "tiled", "tiled_compiled", "triton", "triton_compiled")
ACTIVE = 0.01


@dataclass(frozen=True)
class Shape:
    """Items, tokens of each, lexicons, width; `dtype` that the product is in."""

    items: int = 64
    tokens: int = 197
    lexicons: int = 30_522
    width: int = 768
    dtype: str = "bfloat16"


def measure(request: dict) -> dict:
    """One way at one shape, in this process: seconds of the forward and of the backward pass (median), bytes at the peak beside the inputs."""
    shape, way, repeats = Shape(**request["shape"]), request["way"], request["repeats"]
    device = parts.device()
    torch.manual_seed(0)
    torch.set_num_threads(request["threads"])
    hidden_BLD = torch.randn(shape.items, shape.tokens, shape.width, device=device).requires_grad_()
    weight_VD = (torch.randn(shape.lexicons, shape.width, device=device) / shape.width**0.5).requires_grad_()
    bias_V = torch.full((shape.lexicons,), -_threshold(shape.tokens), device=device).requires_grad_()

    def plain(hidden_BLD, weight_VD, bias_V):
        return torch.nn.functional.linear(hidden_BLD, weight_VD, bias_V).max(dim=1).values.float()

    of_max_linear = {name: functools.partial(max_linear, way=name) for name in ("tiled", "triton")}
    pool = {"plain": plain, **of_max_linear}[way.removesuffix("_compiled")]
    if way.endswith("_compiled"):
        pool = torch.compile(pool)
    before, forward, backward = torch.cuda.memory_allocated() if device == "cuda" else parts.peak_memory(), [], []
    with OtherWork() as other:
        for i in range(repeats + 1):  # the first warms up, compiles, and chooses tiles
            if device == "cuda" and i == 1:
                torch.cuda.reset_peak_memory_stats()
            began = parts.now()
            with torch.autocast(device, getattr(torch, shape.dtype), enabled=shape.dtype != "float32"):
                pooled_BV = pool(hidden_BLD, weight_VD, bias_V)
            loss = torch.log1p(torch.relu(pooled_BV)).sum()
            middle = parts.now()
            loss.backward()
            forward.append(middle - began)
            backward.append(parts.now() - middle)
            active = float((pooled_BV > 0).float().mean())
            hidden_BLD.grad = weight_VD.grad = bias_V.grad = None
    return {
        "head_forward_seconds": float(np.median(forward[1:])),
        "head_backward_seconds": float(np.median(backward[1:])),
        "head_peak_bytes": parts.peak_memory() - before,
        "head_active_share": active,
        "note": other.note(),
    }


def missing(way: str) -> str:
    """Why a way cannot be taken on this machine, "" where it can."""
    if not way.startswith("triton"):
        return ""
    if not TRITON:
        return "the package triton is not installed"
    return "" if torch.cuda.is_available() else "no GPU that torch sees: the Triton kernels need one"


def _threshold(tokens: int) -> float:
    """What the max of as many standard normals passes with a chance of 1%."""
    return float(norm.ppf((1 - ACTIVE) ** (1 / tokens)))


def line(values: pd.Series) -> str:
    forward, backward, peak = (values[f"head_{name}"] for name in ("forward_seconds", "backward_seconds", "peak_bytes"))
    return f"forward {1e3 * forward:10.2f} ms   backward {1e3 * backward:10.2f} ms   peak {peak / 2**20:8.0f} MiB"


PART = parts.Part(
    "lexicon_head",
    WAYS,
    Shape,
    {
        "items": "pictures in the batch",
        "tokens": "of each",
        "lexicons": "of the vocabulary",
        "width": "of a token",
        "dtype": "what the product is computed in",
    },
    ("bench.tasks.parts.lexicon_head", "models.lexicon.max_linear", "models.lexicon.max_linear_triton"),
    line,
    missing,
)


if __name__ == "__main__":
    sys.exit(cli.run(PART.main, PART.parser("Time and memory of the lexicon head, computed in several ways.")))
