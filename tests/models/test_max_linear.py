"""The tiled head against the plain one: values, gradients, ties, padding, autocast, compilation.

The Triton kernels run on a GPU if there is one, else in Triton's interpreter, in a separate process, because triton
must be imported with TRITON_INTERPRET=1 (`test_max_linear_triton`).
"""

import importlib.util
import os
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models.lexicon.max_linear
from models.errors import InputError
from models.lexicon.max_linear import MASKED_OUT, max_linear

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RUNS_TRITON = importlib.util.find_spec("triton") and (INTERPRETED or torch.cuda.is_available())
needs_triton = pytest.mark.skipif(
    not RUNS_TRITON, reason="needs a GPU, or TRITON_INTERPRET=1 as in test_max_linear_triton.py"
)
BOTH = pytest.mark.parametrize("backend", ["tiled", pytest.param("triton", marks=needs_triton)])
DEVICE = {"tiled": "cpu", "triton": "cpu" if INTERPRETED else "cuda"}


def naive(hidden_BLD, weight_VD, bias_V, mask_BL=None):
    logits_BLV = torch.nn.functional.linear(hidden_BLD, weight_VD, bias_V)
    if mask_BL is not None:
        logits_BLV = logits_BLV.masked_fill(~mask_BL[..., None], MASKED_OUT)
    return logits_BLV.max(dim=1).values


def drawn(
    seed: int,
    items: int,
    tokens: int,
    width: int,
    lexicons: int,
    dtype=torch.float64,
    levels: int | None = None,
    backend: str = "tiled",
):
    """hidden, weight, bias, mask; with `levels` few distinct values, so that logits tie."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((items, tokens, width), (lexicons, width), (lexicons,))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    if levels:
        made = [(values * levels).round().clamp(-levels, levels) for values in made]
    mask_BL = (torch.rand(items, tokens, generator=generator) < 0.6).to(DEVICE[backend])
    return [values.to(DEVICE[backend], dtype).requires_grad_() for values in made], mask_BL


def gradients(function, inputs, mask_BL, upstream_BV, **options):
    pooled_BV = function(*inputs, mask_BL, **options)
    return pooled_BV.detach(), torch.autograd.grad((pooled_BV * upstream_BV).sum(), inputs)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**16),
    st.integers(1, 5),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_the_tiled_head_equals_the_plain_head_in_float64(seed, items, tokens, width, lexicons, masked, levels):
    inputs, mask_BL = drawn(seed, items, tokens, width, lexicons, levels=levels)
    mask_BL = mask_BL if masked else None
    upstream_BV = torch.randn(items, lexicons, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    ours, theirs = (gradients(function, inputs, mask_BL, upstream_BV) for function in (max_linear, naive))
    torch.testing.assert_close(ours[0], theirs[0])
    real_B = mask_BL.any(dim=1) if masked else torch.ones(items, dtype=torch.bool)
    if real_B.all():
        for mine, other in zip(ours[1], theirs[1], strict=True):
            torch.testing.assert_close(mine, other)
    else:
        assert (ours[0][~real_B] == MASKED_OUT).all()
        assert not ours[1][0][~real_B].any(), "an item of padding only has no gradient"


@needs_triton
@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 2**16),
    st.integers(1, 4),
    st.integers(1, 24),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from([1, 40, 4096]),
)
def test_the_kernels_equal_the_plain_head_in_float64(seed, items, tokens, width, lexicons, masked, levels, tokens_each):
    """Sizes of several tiles of the interpreter, and programs of one or several items."""
    from models.lexicon import max_linear_triton

    inputs, mask_BL = drawn(seed, items, tokens, width, lexicons, torch.float32, levels, backend="triton")
    mask_BL[:, -1] = True
    mask_BL = mask_BL if masked else None
    upstream_BV = torch.randn(items, lexicons, generator=torch.Generator().manual_seed(seed + 1)).relu().to(inputs[0])
    with mock.patch.multiple(max_linear_triton, TOKENS_PER_PROGRAM=tokens_each, MIN_PROGRAMS=1):
        ours = gradients(max_linear, inputs, mask_BL, upstream_BV, backend="triton")
    theirs = gradients(naive, [values.detach().double().requires_grad_() for values in inputs], mask_BL, upstream_BV)
    torch.testing.assert_close(ours[0], theirs[0].float())
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other.float(), rtol=1e-4, atol=1e-5)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_kernels_sum_half_precision_in_float32(dtype):
    inputs, mask_BL = drawn(0, 2, 20, 24, 18, dtype, backend="triton")
    upstream_BV = torch.ones(2, 18, device=mask_BL.device)
    ours = gradients(max_linear, inputs, mask_BL, upstream_BV, backend="triton")
    theirs = gradients(naive, [values.detach().double().requires_grad_() for values in inputs], mask_BL, upstream_BV)
    torch.testing.assert_close(ours[0], theirs[0].float(), rtol=1e-5, atol=1e-4)
    assert [gradient.dtype for gradient in ours[1]] == [dtype] * 3
    torch.testing.assert_close(ours[1], tuple(gradient.to(dtype) for gradient in theirs[1]))


@BOTH
def test_nan_wins_the_max(backend):
    (hidden_BLD, *others), _ = drawn(0, 3, 9, 4, 5, torch.float32, backend=backend)
    with torch.no_grad():
        hidden_BLD[1, 7, 2] = float("nan")
    pooled_BV = max_linear(hidden_BLD, *others, backend=backend)
    assert pooled_BV[1].isnan().all() and not pooled_BV[[0, 2]].isnan().any()
    assert torch.autograd.grad(pooled_BV.sum(), hidden_BLD)[0].isfinite().all(), "the gradient depends on weights only"


@BOTH
def test_no_gradient_without_an_active_lexicon(backend):
    inputs, _ = drawn(0, 2, 3, 4, 5, torch.float32, backend=backend)
    pooled_BV, found = gradients(max_linear, inputs, None, 0.0, backend=backend)
    assert pooled_BV.any() and not any(gradient.any() for gradient in found)


@BOTH
def test_the_first_real_token_of_equal_logits_has_the_gradient(backend):
    hidden_BLD = torch.tensor([[[9.0], [2.0], [2.0], [1.0]]], requires_grad=True, device=DEVICE[backend])
    mask_BL, (weight_VD, bias_V) = torch.tensor([[False, True, True, True]]), ([[1.0], [3.0]], [0.0, 0.0])
    mask_BL, weight_VD, bias_V = (
        torch.as_tensor(values, device=DEVICE[backend]) for values in (mask_BL, weight_VD, bias_V)
    )
    max_linear(hidden_BLD, weight_VD, bias_V, mask_BL, backend).sum().backward()
    assert hidden_BLD.grad.flatten().tolist() == [0.0, 4.0, 0.0, 0.0]


@BOTH
def test_items_of_padding_only_are_masked_out_without_gradient(backend):
    inputs, mask_BL = drawn(0, 3, 5, 4, 7, torch.float32, backend=backend)
    mask_BL[1] = False
    pooled_BV, (of_hidden_BLD, _, of_bias_V) = gradients(max_linear, inputs, mask_BL, 1.0, backend=backend)
    assert (pooled_BV[1] == MASKED_OUT).all() and (pooled_BV[[0, 2]] > MASKED_OUT).all()
    assert not of_hidden_BLD[1].any() and of_bias_V.tolist() == [2.0] * 7


def test_the_tile_size_does_not_change_the_result(monkeypatch):
    inputs, mask_BL = drawn(0, 7, 5, 4, 600)
    upstream_BV = torch.ones(7, 600, dtype=torch.float64)
    whole = gradients(max_linear, inputs, mask_BL, upstream_BV)
    monkeypatch.setattr(models.lexicon.max_linear, "TILE", 2600)  # two items and 256 lexicons at a time
    tiled = gradients(max_linear, inputs, mask_BL, upstream_BV)
    torch.testing.assert_close(tiled[0], whole[0])
    for one, other in zip(tiled[1], whole[1], strict=True):
        torch.testing.assert_close(one, other)


def test_the_logits_are_not_in_memory(monkeypatch):
    """No operation allocates a tensor near the size items x tokens x lexicons."""
    inputs, mask_BL = drawn(0, 8, 64, 4, 4096, torch.float32)
    monkeypatch.setattr(models.lexicon.max_linear, "TILE", 2**16)
    largest = {}
    for function in (max_linear, naive):
        with torch.profiler.profile(profile_memory=True) as profile:
            function(*inputs, mask_BL).relu().sum().backward()
        operations = [event for event in profile.events() if event.name.startswith("aten::")]
        largest[function] = max(event.self_cpu_memory_usage for event in operations)
    assert largest[naive] >= 8 * 64 * 4096 * 4 > 8 * largest[max_linear] > 0


@BOTH
def test_half_precision_under_autocast(backend):
    inputs, mask_BL = drawn(0, 3, 6, 16, 40, torch.float32, backend=backend)
    with torch.autocast(DEVICE[backend], torch.bfloat16):
        ours = gradients(max_linear, inputs, mask_BL, 1.0, backend=backend)
        theirs = naive(*inputs, mask_BL)
    assert ours[0].dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs.float(), rtol=0.02, atol=0.05)
    assert all(gradient.dtype == torch.float32 and torch.isfinite(gradient).all() for gradient in ours[1])


@pytest.mark.nightly
@BOTH
def test_compiles_without_a_graph_break(backend):
    inputs, mask_BL = drawn(0, 3, 6, 16, 40, torch.float32, backend=backend)
    compiled = torch.compile(max_linear, fullgraph=True, backend="aot_eager")
    ours, theirs = (gradients(function, inputs, mask_BL, 1.0, backend=backend) for function in (compiled, max_linear))
    torch.testing.assert_close(ours, theirs)


@BOTH
def test_the_operator_passes_opcheck(backend):
    inputs, _ = drawn(0, 2, 3, 4, 5, torch.float32, backend=backend)
    if backend == "tiled":
        torch.library.opcheck(models.lexicon.max_linear._max_product, tuple(inputs[:2]))
    else:
        torch.library.opcheck(models.lexicon.max_linear._max_product_triton, (*inputs[:2], torch.float16))


@BOTH
def test_too_many_tokens_are_refused(backend):
    states, weight, bias = (torch.zeros(shape, device=DEVICE[backend]) for shape in ((1, 2**15, 1), (1, 1), (1,)))
    with pytest.raises(ValueError, match="32768 tokens: expected fewer"):
        max_linear(states, weight, bias, backend=backend)


@needs_triton
def test_unsupported_inputs_of_the_kernels_are_refused():
    from models.lexicon import max_linear_triton

    double, single = (
        torch.zeros(1, 2, 3, dtype=dtype, device=DEVICE["triton"]) for dtype in (torch.float64, torch.float32)
    )
    with pytest.raises(
        InputError, match="float16 or float32, not torch.float64 and torch.float64; convert them or use backend 'tiled'"
    ):
        max_linear(double, double[0], double[0, :, 0], backend="triton")
    with (
        mock.patch.object(max_linear_triton, "MAX_VALUES", 6),
        pytest.raises(InputError, match=r"\(1, 2, 3\), weights \(2, 3\).*split"),
    ):
        max_linear(single, single[0], single[0, :, 0], backend="triton")
