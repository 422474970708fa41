"""Captions of a batch in groups of similar length, each cut at its longest: half of a padded batch is padding."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

GROUPS = 4
"""Groups of a batch. On captions of 7 to 28 tokens four of them leave 62% of the tokens of a padded batch, eight 58%."""


def by_length(
    function: Callable[..., Sequence[torch.Tensor]],
    lengths_B: torch.Tensor,
    tokens: Sequence[torch.Tensor],
    items: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, ...]:
    """function(*tokens, *items) of a batch, computed in groups of similar length.

    Args:
        function: of tensors with rows (b, ...) to tensors with rows (b, ...). Those with tokens as their second dimension must say so by
            having three dimensions; they are padded back with zeros.
        lengths_B: tokens of each row that are no padding; padding is at the end.
        tokens: (B, L), cut at the longest of each group. items: (B, ...), not cut.

    Returns:
        What function returns, rows in the order of the batch; equal to ungrouped results up to rounding, but for states of padding.
    """
    longest, order_B = tokens[0].shape[1], lengths_B.argsort(stable=True)
    made = []
    for rows_b in order_B.chunk(GROUPS):
        length = max(int(lengths_B[rows_b[-1]]), 1)
        parts = function(
            *(tensor_BL[rows_b, :length] for tensor_BL in tokens), *(tensor_B[rows_b] for tensor_B in items)
        )
        made.append([F.pad(part, (0, 0, 0, longest - length)) if part.ndim == 3 else part for part in parts])
    back_B = order_B.argsort()
    return tuple(torch.cat(parts)[back_B] for parts in zip(*made, strict=True))
