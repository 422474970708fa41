"""Max over tokens of a linear layer without the (B, L, V) logits in memory: the costly part of a lexicon head.

With 197 tokens and 30,522 lexicons, the logits of one image are 12 MB in half precision, and so is their gradient. Here
the forward pass makes them one tile at a time and the backward pass not at all: only the winning token of each lexicon
has a gradient (a matrix with at most one entry per item and lexicon, far fewer after a ReLU), so both products of the
backward pass are sparse.

Backends: "tiled" is torch on any device; "triton" is a set of GPU kernels (`models.lexicon.max_linear_triton`).

The bias of a lexicon is the same for all tokens, so it is added after the max. Padding gets the state of the item's
first real token and thus cannot win: of equal logits, the first token wins.
"""

import importlib.util
import warnings
from typing import Literal, get_args

import torch

from models.config import Backend
from models.errors import InputError, require

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

MASKED_OUT = -1e4
"""Pooled logit of an item without real tokens: below every real logit and finite in bfloat16."""

TILE = 2**20
"""Logits per tile: 4 MB in float32, which fits the last-level cache of most machines."""

MAX_TOKENS = 2**15
"""Upper bound of the number of tokens, exclusive: winners are stored as int16."""

TRITON = importlib.util.find_spec("triton") is not None


def resolve_backend(backend: Backend, device: torch.device) -> Literal["tiled", "triton"]:
    """The backend used on a device. No fallback: one that cannot run there fails. Raises InputError if unknown."""
    if backend not in get_args(Backend):
        raise InputError(f"lexicon head backend {backend!r}: expected {', '.join(get_args(Backend))}")
    if backend == "auto":
        return "triton" if device.type == "cuda" and TRITON else "tiled"
    return backend


def max_linear(
    hidden_BLD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor,
    mask_BL: torch.Tensor | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Max over tokens of (hidden @ weight.T + bias), (B, V) in float32 or wider.

    Values and gradients equal those of `linear(...).max(dim=1)`; of equal logits, the first token gets the gradient.
    Under autocast the product has the autocast dtype (the kernels compare float32 sums, before rounding).

    mask_BL: False at padding. An item of padding only gets `MASKED_OUT` and no gradient.

    Raises ValueError for too many tokens, InputError for inputs that the Triton kernels do not support.
    """
    device = hidden_BLD.device
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    if mask_BL is not None:
        first_B = mask_BL.int().argmax(dim=1)
        first_B1D = hidden_BLD[torch.arange(hidden_BLD.shape[0], device=device), first_B][:, None]
        hidden_BLD = torch.where(mask_BL[..., None], hidden_BLD, first_B1D)
    if resolve_backend(backend, device) == "triton":
        highest_BV = _max_product_triton(hidden_BLD, weight_VD, dtype)[0]
    else:
        highest_BV = _wide(_max_product(hidden_BLD.to(dtype), weight_VD.to(dtype))[0])
    highest_BV = highest_BV + _wide(bias_V)
    if mask_BL is not None:
        highest_BV = highest_BV.masked_fill(~mask_BL.any(dim=1, keepdim=True), MASKED_OUT)
    return highest_BV


@torch.library.custom_op("lexlip::max_product", mutates_args=())
def _max_product(hidden_BLD: torch.Tensor, weight_VD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest product of each item with each lexicon, (B, V), and the token that has it, int16 (B, V)."""
    _check_tokens(hidden_BLD)
    (size, tokens, width), lexicons = hidden_BLD.shape, len(weight_VD)
    highest_BV = hidden_BLD.new_empty(size, lexicons)
    winners_BV = torch.empty(size, lexicons, dtype=torch.int16, device=hidden_BLD.device)
    items = max(1, min(size, TILE // (256 * tokens)))  # leaves room for 256 lexicons
    columns = max(1, TILE // (items * tokens))
    for b in range(0, size, items):
        part_bLD = hidden_BLD[b : b + items]
        for v in range(0, lexicons, columns):
            logits_vbL = (weight_VD[v : v + columns] @ part_bLD.reshape(-1, width).T).unflatten(1, part_bLD.shape[:2])
            found = logits_vbL.max(dim=2)  # tokens last: contiguous, which the reduction needs to be fast
            highest_BV[b : b + items, v : v + columns] = found.values.T
            winners_BV[b : b + items, v : v + columns] = found.indices.T
    return highest_BV, winners_BV


@_max_product.register_fake
def _(hidden_BLD, weight_VD):
    shape = (hidden_BLD.shape[0], weight_VD.shape[0])
    return hidden_BLD.new_empty(shape), hidden_BLD.new_empty(shape, dtype=torch.int16)


@torch.library.custom_op("lexlip::max_product_backward", mutates_args=())
def _max_product_backward(
    gradient_BV: torch.Tensor, winners_BV: torch.Tensor, hidden_BLD: torch.Tensor, weight_VD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of hidden and weight: products with the sparse (B L, V) matrix of the winners' gradients."""
    size, tokens, width = hidden_BLD.shape
    items_N, lexicons_N = gradient_BV.nonzero(as_tuple=True)
    states_N = items_N * tokens + winners_BV[items_N, lexicons_N]
    values_N = _wide(gradient_BV[items_N, lexicons_N])
    of_states = _sparse_product(states_N, lexicons_N, values_N, size * tokens, weight_VD)
    of_lexicons = _sparse_product(lexicons_N, states_N, values_N, len(weight_VD), hidden_BLD.reshape(-1, width))
    return of_states.view(size, tokens, width).to(hidden_BLD.dtype), of_lexicons.to(weight_VD.dtype)


@_max_product_backward.register_fake
def _(gradient_BV, winners_BV, hidden_BLD, weight_VD):
    return torch.empty_like(hidden_BLD), torch.empty_like(weight_VD)


def _sparse_product(rows_N, columns_N, values_N, rows: int, dense_CD: torch.Tensor) -> torch.Tensor:
    """The sparse matrix with `values` at (rows, columns), times a dense one: (rows, D) in float32 or wider."""
    order_N = rows_N.argsort(stable=True)
    ends_R = torch.bincount(rows_N, minlength=rows).cumsum(0)
    starts_R = torch.cat([ends_R.new_zeros(1), ends_R])
    sparse_RC = torch.sparse_csr_tensor(
        starts_R, columns_N[order_N], values_N[order_N], (rows, len(dense_CD)), check_invariants=False
    )
    with torch.autocast(dense_CD.device.type, enabled=False):
        return sparse_RC @ _wide(dense_CD)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check_tokens(hidden_BLD: torch.Tensor) -> None:
    if hidden_BLD.shape[1] >= MAX_TOKENS:
        raise ValueError(f"{hidden_BLD.shape[1]} tokens: expected fewer than {MAX_TOKENS}")


# --- the Triton backend; its kernels are imported at the first call -------------------------------------------------


@torch.library.custom_op("lexlip::max_product_triton", mutates_args=())
def _max_product_triton(
    hidden_BLD: torch.Tensor, weight_VD: torch.Tensor, dtype: torch.dtype | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_max_product` of both inputs in `dtype` (None: unchanged). The casts are not saved for backward."""
    _check_tokens(hidden_BLD)
    return _kernels().max_product(hidden_BLD.to(dtype), weight_VD.to(dtype))


@_max_product_triton.register_fake
def _(hidden_BLD, weight_VD, dtype):
    shape = (hidden_BLD.shape[0], weight_VD.shape[0])
    return hidden_BLD.new_empty(shape, dtype=torch.float32), hidden_BLD.new_empty(shape, dtype=torch.int16)


@torch.library.custom_op("lexlip::max_product_triton_backward", mutates_args=(), tags=torch.Tag.cudagraph_unsafe)
def _max_product_triton_backward(
    gradient_BV: torch.Tensor, winners_BV: torch.Tensor, hidden_BLD: torch.Tensor, weight_VD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return _kernels().max_product_backward(gradient_BV, winners_BV, hidden_BLD, weight_VD)


@_max_product_triton_backward.register_fake
def _(gradient_BV, winners_BV, hidden_BLD, weight_VD):
    return hidden_BLD.new_empty(hidden_BLD.shape), weight_VD.new_empty(weight_VD.shape)


def _kernels():
    require("triton")
    from models.lexicon import max_linear_triton

    return max_linear_triton


# --- gradients ------------------------------------------------------------------------------------------------------


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:2], output[1])
    ctx.without_gradient = [None] * len(inputs[2:])
    ctx.mark_non_differentiable(output[1])


def _backward(operator):
    def backward(ctx, gradient_BV, _):
        hidden_BLD, weight_VD, winners_BV = ctx.saved_tensors
        return *operator(gradient_BV.contiguous(), winners_BV, hidden_BLD, weight_VD), *ctx.without_gradient

    return backward


_max_product.register_autograd(_backward(_max_product_backward), setup_context=_keep)
_max_product_triton.register_autograd(_backward(_max_product_triton_backward), setup_context=_keep)
