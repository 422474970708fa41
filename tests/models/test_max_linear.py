"""The head that never holds its logits, against the plain one: values, gradients, ties, padding, autocast, compilation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models.max_linear
from models.max_linear import MASKED_OUT, max_linear


def naive(hidden_BLD, weight_VD, bias_V, mask_BL=None):
    logits_BLV = torch.nn.functional.linear(hidden_BLD, weight_VD, bias_V)
    if mask_BL is not None:
        logits_BLV = logits_BLV.masked_fill(~mask_BL[..., None], MASKED_OUT)
    return logits_BLV.max(dim=1).values


def drawn(seed: int, items: int, tokens: int, width: int, lexicons: int, dtype=torch.float64, levels: int | None = None):
    """hidden, weight, bias, mask; with `levels` few distinct values, so that logits tie."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((items, tokens, width), (lexicons, width), (lexicons,))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    if levels:
        made = [(values * levels).round().clamp(-levels, levels) for values in made]
    mask_BL = torch.rand(items, tokens, generator=generator) < 0.6
    return [values.to(dtype).requires_grad_() for values in made], mask_BL


def gradients(function, inputs, mask_BL, upstream_BV):
    pooled_BV = function(*inputs, mask_BL)
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
def test_equals_the_plain_head_in_float64_ties_included(seed, items, tokens, width, lexicons, masked, levels):
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
        assert not ours[1][0][~real_B].any(), "an item of padding has no gradient"


def test_of_equal_logits_the_first_real_token_has_the_gradient():
    hidden_BLD = torch.tensor([[[9.0], [2.0], [2.0], [1.0]]], requires_grad=True)
    mask_BL = torch.tensor([[False, True, True, True]])
    max_linear(hidden_BLD, torch.tensor([[1.0], [3.0]]), torch.zeros(2), mask_BL).sum().backward()
    assert hidden_BLD.grad.flatten().tolist() == [0.0, 4.0, 0.0, 0.0]


def test_tiles_change_nothing(monkeypatch):
    inputs, mask_BL = drawn(0, 7, 5, 4, 600)
    upstream_BV = torch.ones(7, 600, dtype=torch.float64)
    whole = gradients(max_linear, inputs, mask_BL, upstream_BV)
    monkeypatch.setattr(models.max_linear, "TILE", 2600)  # two items and 256 lexicons at a time
    tiled = gradients(max_linear, inputs, mask_BL, upstream_BV)
    torch.testing.assert_close(tiled[0], whole[0])
    for one, other in zip(tiled[1], whole[1], strict=True):
        torch.testing.assert_close(one, other)


def test_no_logits_are_held(monkeypatch):
    """No operation of either pass makes a tensor of items x tokens x lexicons, nor anything near it."""
    inputs, mask_BL = drawn(0, 8, 64, 4, 4096, torch.float32)
    monkeypatch.setattr(models.max_linear, "TILE", 2**16)
    largest = {}
    for function in (max_linear, naive):
        with torch.profiler.profile(profile_memory=True) as profile:
            function(*inputs, mask_BL).relu().sum().backward()
        operations = [event for event in profile.events() if event.name.startswith("aten::")]
        largest[function] = max(event.self_cpu_memory_usage for event in operations)
    assert largest[naive] >= 8 * 64 * 4096 * 4 > 8 * largest[max_linear] > 0


def test_half_precision_under_autocast():
    inputs, mask_BL = drawn(0, 3, 6, 16, 40, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(max_linear, inputs, mask_BL, torch.ones(3, 40))
        theirs = naive(*inputs, mask_BL)
    assert ours[0].dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs.float(), rtol=0.02, atol=0.05)
    assert all(gradient.dtype == torch.float32 and torch.isfinite(gradient).all() for gradient in ours[1])


def test_compiles_without_a_break():
    inputs, mask_BL = drawn(0, 3, 6, 16, 40, torch.float32)
    compiled = torch.compile(max_linear, fullgraph=True, backend="aot_eager")
    ours, theirs = (gradients(function, inputs, mask_BL, torch.ones(3, 40)) for function in (compiled, max_linear))
    torch.testing.assert_close(ours, theirs)


def test_the_operator_keeps_its_promises():
    inputs, _ = drawn(0, 2, 3, 4, 5)
    torch.library.opcheck(models.max_linear._max_product, tuple(inputs[:2]))


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="32768 tokens: expected fewer"):
        max_linear(torch.zeros(1, 2**15, 1), torch.zeros(1, 1), torch.zeros(1))
