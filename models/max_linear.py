"""Max over tokens of a linear layer, without ever holding the (B, L, V) logits: the costly part of a lexicon head.

At 197 tokens and 30,522 lexicons the logits of one image are 12 MB in half precision, and their gradient as much again. Here they are
made a tile at a time, forward, and not at all backward: of each lexicon only the winning token has a gradient (a matrix with at most one
entry for each item and lexicon, and after a ReLU far fewer), so both products of the backward pass are sparse.

The bias of a lexicon is the same for all tokens, so it is added after the max. Padding is kept out by giving it the state of the item's
first real token: that cannot win over it, since of equals the first token wins.
"""

import warnings

import torch

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")  # said at the first product, on every command's stderr

MASKED_OUT = -1e4
"""Pooled logit of an item without any real token: below every real logit, and finite in bfloat16."""

TILE = 2**20
"""Logits made at a time: 4 MB in float32, which the last-level cache of most machines holds."""

MOST_TOKENS = 2**15
"""Winners are kept as int16."""


def max_linear(
    hidden_BLD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor, mask_BL: torch.Tensor | None = None
) -> torch.Tensor:
    """max over tokens of (hidden @ weight.T + bias), at least float32, (B, V).

    Same values and gradients as the plain `linear(...).max(dim=1)`; of equal logits the first token gets the gradient. Under autocast
    the product is in its dtype. `mask_BL`: False at padding; an item of padding alone gets `MASKED_OUT` and no gradient.
    """
    if torch.is_autocast_enabled(hidden_BLD.device.type):
        dtype = torch.get_autocast_dtype(hidden_BLD.device.type)
        hidden_BLD, weight_VD = hidden_BLD.to(dtype), weight_VD.to(dtype)
    if mask_BL is not None:
        first_B = mask_BL.int().argmax(dim=1)
        first_B1D = hidden_BLD[torch.arange(len(hidden_BLD), device=hidden_BLD.device), first_B][:, None]
        hidden_BLD = torch.where(mask_BL[..., None], hidden_BLD, first_B1D)
    highest_BV = _wide(_max_product(hidden_BLD, weight_VD)[0]) + _wide(bias_V)
    if mask_BL is not None:
        highest_BV = highest_BV.masked_fill(~mask_BL.any(dim=1, keepdim=True), MASKED_OUT)
    return highest_BV


@torch.library.custom_op("lexlip::max_product", mutates_args=())
def _max_product(hidden_BLD: torch.Tensor, weight_VD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest product of each item with each lexicon (B, V), and the token that has it, int16 (B, V)."""
    (size, tokens, width), lexicons = hidden_BLD.shape, len(weight_VD)
    if tokens >= MOST_TOKENS:
        raise ValueError(f"{tokens} tokens: expected fewer than {MOST_TOKENS}")
    highest_BV = hidden_BLD.new_empty(size, lexicons)
    winners_BV = torch.empty(size, lexicons, dtype=torch.int16, device=hidden_BLD.device)
    items = max(1, min(size, TILE // (256 * tokens)))  # as many as leave room for 256 lexicons
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
    """The gradients of hidden and weight: products with the sparse (B L, V) matrix of the winners' gradients."""
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
    """The matrix with `values` at (rows, columns), times a dense one: (rows, D), at least float32."""
    order_N = rows_N.argsort(stable=True)
    ends_R = torch.bincount(rows_N, minlength=rows).cumsum(0)
    starts_R = torch.cat([ends_R.new_zeros(1), ends_R])
    sparse_RC = torch.sparse_csr_tensor(starts_R, columns_N[order_N], values_N[order_N], (rows, len(dense_CD)), check_invariants=False)
    with torch.autocast(dense_CD.device.type, enabled=False):
        return sparse_RC @ _wide(dense_CD)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, gradient_BV, _):
    hidden_BLD, weight_VD, winners_BV = ctx.saved_tensors
    return _max_product_backward(gradient_BV.contiguous(), winners_BV, hidden_BLD, weight_VD)


_max_product.register_autograd(_backward, setup_context=_keep)
