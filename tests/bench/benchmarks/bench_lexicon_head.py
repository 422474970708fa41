"""Time and memory of the lexicon head by backend; see conftest.py for the command.

    plain            linear over all tokens, then max: holds the (B, L, V) logits and their gradient
    plain_compiled   the same through torch.compile
    tiled            models.lexicon.max_linear: one tile of logits at a time, sparse products backward
    tiled_compiled   the same inside torch.compile
    triton           models.lexicon.max_linear_triton: GPU kernels
    triton_compiled  the same inside torch.compile

A step is forward and backward of log(1 + ReLU(max)), on random states and weights whose bias leaves about 1% of an
item's lexicons active, as in a trained head. The default size is that of Sparton (arXiv 2603.25011). Peak memory is
measured in a process of its own, since the allocator of this process keeps what earlier backends used.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from scipy.stats import norm

from bench.store.machine import OtherWork
from models.lexicon.max_linear import TRITON, max_linear

ROOT = Path(__file__).resolve().parents[3]
BACKENDS = ("plain", "plain_compiled", "tiled", "tiled_compiled", "triton", "triton_compiled")
CODE = ("models.lexicon.max_linear", "models.lexicon.max_linear_triton")
ACTIVE = 0.01
TIME_LIMIT = 1800  # seconds of the process that measures memory
KIB = 1024


@dataclass(frozen=True)
class Shape:
    """Items of a batch, tokens of each, lexicons, width; `dtype` of the product: bfloat16 or float32."""

    items: int = 64
    tokens: int = 197
    lexicons: int = 30_522
    width: int = 768
    dtype: str = "bfloat16"


class Head:
    """Inputs of the head on this machine's device, and one training step of a backend."""

    def __init__(self, shape: Shape, backend: str, threads: int):
        torch.manual_seed(0)
        torch.set_num_threads(threads)
        self.device, self.dtype = "cuda" if torch.cuda.is_available() else "cpu", shape.dtype
        threshold = float(norm.ppf((1 - ACTIVE) ** (1 / shape.tokens)))  # max of `tokens` normals exceeds it in 1%
        self.inputs = [
            torch.randn(shape.items, shape.tokens, shape.width, device=self.device).requires_grad_(),
            (torch.randn(shape.lexicons, shape.width, device=self.device) / shape.width**0.5).requires_grad_(),
            torch.full((shape.lexicons,), -threshold, device=self.device).requires_grad_(),
        ]
        name = backend.removesuffix("_compiled")
        self.pool = plain if name == "plain" else lambda *inputs: max_linear(*inputs, None, name)
        if backend.endswith("_compiled"):
            self.pool = torch.compile(self.pool)
        self.forward: list[float] = []
        self.backward: list[float] = []
        self.active = 0.0

    def step(self) -> None:
        """Forward and backward; appends the seconds of each."""
        began = self.now()
        with torch.autocast(self.device, getattr(torch, self.dtype), enabled=self.dtype != "float32"):
            pooled_BV = self.pool(*self.inputs)
        loss = torch.log1p(torch.relu(pooled_BV)).sum()
        middle = self.now()
        loss.backward()
        self.forward.append(middle - began)
        self.backward.append(self.now() - middle)
        self.active = float((pooled_BV > 0).float().mean())
        for tensor in self.inputs:
            tensor.grad = None

    def now(self) -> float:
        """Seconds, after all work queued on the GPU has finished."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def memory(self, peak: bool) -> int:
        """Bytes allocated on the GPU (now or at the peak), or the peak resident memory of this process."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def plain(hidden_BLD, weight_VD, bias_V):
    """Max over tokens of a linear layer, (B, V) float32."""
    return torch.nn.functional.linear(hidden_BLD, weight_VD, bias_V).max(dim=1).values.float()


def missing(backend: str) -> str:
    """Why a backend cannot run on this machine, "" if it can."""
    if not backend.startswith("triton"):
        return ""
    if not TRITON:
        return "the package triton is not installed"
    return "" if torch.cuda.is_available() else "no GPU that torch sees: the Triton kernels need one"


def peak_bytes(shape: Shape, backend: str, threads: int) -> int:
    """Peak memory of a step beyond that of its inputs, in this process: the second step, on a GPU."""
    head = Head(shape, backend, threads)
    before = head.memory(peak=False)
    head.step()
    if head.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    head.step()
    return head.memory(peak=True) - before


def isolated_peak(*request) -> tuple[int | None, str, str]:
    """`peak_bytes` in a process of its own: bytes or None, status of the record, note."""
    command = [sys.executable, __file__, json.dumps(request)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return None, "timeout", f"not finished after {TIME_LIMIT} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
        memory = done.returncode == -9 or "OutOfMemory" in last or "alloc" in last
        return None, "out_of_memory" if memory else "failed", f"exit code {done.returncode}: {last}"
    return int(done.stdout.split()[-1]), "ok", ""


@pytest.mark.parametrize("backend", BACKENDS)
def test_lexicon_head(backend, workload, benchmark):
    shape, threads, repeats, write = workload("lexicon_head", backend, Shape, CODE)
    if reason := missing(backend):
        write({}, "absent", reason)
        pytest.skip(reason)
    peak, status, note = isolated_peak(asdict(shape), backend, threads)
    if status != "ok":
        write({}, status, note)
        pytest.fail(note)
    head = Head(shape, backend, threads)
    with OtherWork() as other:
        benchmark.pedantic(head.step, rounds=repeats, warmup_rounds=1)  # the warm-up compiles and chooses tiles
    values = {
        "head_forward_seconds": statistics.median(head.forward[1:]),
        "head_backward_seconds": statistics.median(head.backward[1:]),
        "head_peak_bytes": peak,
        "head_active_share": head.active,
    }
    benchmark.extra_info.update(values)
    write(values, note=other.note())


if __name__ == "__main__":
    of_shape, *rest = json.loads(sys.argv[1])
    print(peak_bytes(Shape(**of_shape), *rest))
