"""The Triton kernels of the lexicon head: selection, compilation, execution. `test_max_linear` tests their results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import models.lexicon.max_linear
from models.errors import InputError
from models.lexicon.max_linear import max_linear, resolve_backend

triton = pytest.importorskip("triton")
TESTS = Path(__file__).with_name("test_max_linear.py")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_backend_depends_on_the_device_and_the_setting(monkeypatch):
    assert [resolve_backend(backend, CPU) for backend in ("auto", "tiled", "triton")] == ["tiled", "tiled", "triton"]
    assert [resolve_backend(backend, GPU) for backend in ("auto", "tiled", "triton")] == ["triton", "tiled", "triton"]
    monkeypatch.setattr(models.lexicon.max_linear, "TRITON", False)
    assert resolve_backend("auto", GPU) == "tiled"
    with pytest.raises(InputError, match="backend 'fast': expected auto, tiled, triton"):
        resolve_backend("fast", CPU)


def test_a_backend_that_cannot_run_fails(monkeypatch):
    states = torch.ones(1, 2, 3)
    with pytest.raises(InputError, match="run on a GPU, not on cpu; expected backend 'tiled' there"):
        max_linear(states, states[0], states[0, :, 0], backend="triton")
    monkeypatch.delitem(sys.modules, "models.lexicon.max_linear_triton")
    monkeypatch.delattr("models.lexicon.max_linear_triton")
    monkeypatch.setitem(sys.modules, "triton", None)  # as where it is not installed
    with pytest.raises(InputError, match="the package 'triton' is not installed"):
        max_linear(states, states[0], states[0, :, 0], backend="triton")


@pytest.mark.parametrize(
    "tests",
    ["first_real_token and triton", pytest.param("triton or kernels", marks=pytest.mark.nightly)],
    ids=["one", "all"],
)
def test_results_in_the_interpreter(tests):
    """Runs tests of `test_max_linear` with the kernels on the CPU."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    plain = ["--noconftest", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", ""]
    command = [sys.executable, "-m", "pytest", *plain, str(TESTS), "-k", tests]
    ran = subprocess.run(command, cwd=TESTS.parents[2], env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:]
    summary = ran.stdout.strip().splitlines()[-1]
    assert "passed" in summary and "skipped" not in summary, summary


@pytest.mark.nightly
@pytest.mark.parametrize(("capability", "multiplies"), [(80, "mma.sync"), (90, "wgmma.mma_async")])
def test_compiles_for_a_gpu_that_is_not_here(capability, multiplies, monkeypatch, tmp_path):
    """Both kernels, to machine code: on the tensor cores, within their shared memory."""
    from triton.backends.compiler import GPUTarget

    from models.lexicon import max_linear_triton as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tiles = kernels.CONFIGS[6]

    def compiled(kernel, pointers: dict, constants: dict, **options):
        signature = {name: pointers.get(name, "constexpr" if name in constants else "i32") for name in kernel.arg_names}
        aligned = {
            (place,): [["tt.divisibility", 16]] for place, kind in enumerate(signature.values()) if kind.startswith("*")
        }
        source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

    forward = compiled(
        kernels._max_product.fn,
        {"hidden_BLD": "*bf16", "weight_VD": "*bf16", "highest_BV": "*fp32", "winners_BV": "*i16"},
        {"WIDTH": 768, "PRECISION": "ieee", **tiles.kwargs},
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    assert multiplies in forward.asm["ptx"] and "atom" not in forward.asm["ptx"]
    assert forward.metadata.shared <= 160 * 1024, "of a multiprocessor of an A100"
    backward = compiled(
        kernels._sum_rows,
        {"starts": "*i64", "from_N": "*i64", "values_N": "*fp32", "rows_CD": "*bf16", "sums_RD": "*bf16"},
        {"WIDTH": 768, "BLOCK_D": 1024, "BLOCK_N": 4},
    )
    assert backward.asm["cubin"]


@needs_gpu
def test_at_the_size_of_base_on_a_gpu():
    """Equals the plain head in float32 on the same bfloat16 values, with a tenth of its memory without gradients."""
    torch.manual_seed(0)
    hidden_BLD = torch.randn(64, 197, 768, device="cuda").requires_grad_()
    weight_VD = (torch.randn(30_522, 768, device="cuda") / 768**0.5).requires_grad_()
    bias_V = torch.full((30_522,), -3.5, device="cuda").requires_grad_()
    inputs, found, peaks = (hidden_BLD, weight_VD, bias_V), {}, {}

    def plain(hidden_BLD, weight_VD, bias_V):
        return torch.nn.functional.linear(hidden_BLD, weight_VD, bias_V).max(dim=1).values.float()

    def exact(hidden_BLD, weight_VD, bias_V):
        with torch.autocast("cuda", enabled=False):
            return plain(hidden_BLD.bfloat16().float(), weight_VD.bfloat16().float(), bias_V)

    for name, pool in (("plain", plain), ("exact", exact), ("triton", max_linear)):
        for _ in range(2):  # the first run tunes the tiles
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            with torch.autocast("cuda", torch.bfloat16):
                pooled_BV = pool(*inputs)
            found[name] = pooled_BV.detach(), *torch.autograd.grad(pooled_BV.relu().log1p().sum(), inputs)
            peaks[name] = torch.cuda.max_memory_allocated() - before
    for ours, theirs in zip(found["triton"], found["exact"], strict=True):
        assert (ours - theirs).norm() <= 0.01 * theirs.norm()
    gradients = sum(values.nbytes for values in inputs)
    assert 10 * (peaks["triton"] - gradients) <= peaks["plain"] - gradients


@needs_gpu
@pytest.mark.parametrize("dynamic", [False, True])
def test_inside_the_compiler_on_a_gpu(dynamic):
    inputs = [torch.randn(shape, device="cuda").requires_grad_() for shape in ((3, 37, 48), (500, 48), (500,))]
    compiled = torch.compile(max_linear, fullgraph=True, dynamic=dynamic)
    ours, theirs = (
        (pooled_BV, *torch.autograd.grad(pooled_BV.relu().sum(), inputs))
        for pooled_BV in (pool(*inputs) for pool in (compiled, max_linear))
    )
    torch.testing.assert_close(ours, theirs)
