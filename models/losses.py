"""The losses, each a pure function checked against its textbook formula in float64."""

import torch
from torch.nn import functional as F

IGNORED = -100
"""Target of a token that was not masked."""


def info_nce(queries_BX: torch.Tensor, keys_BX: torch.Tensor, temperature: float, queued_BH: torch.Tensor | None = None) -> torch.Tensor:
    """Mean cross-entropy of each query against its key (row i of `keys`) among all keys of the batch, from L2-normalised rows.

    -log exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t), averaged over the queries. `queued_BH`: products of the queries with further keys,
    which are negatives only.
    """
    scores_BN = queries_BX @ keys_BX.T
    if queued_BH is not None:
        scores_BN = torch.cat([scores_BN, queued_BH.to(scores_BN.dtype)], dim=1)
    return F.cross_entropy(scores_BN / temperature, torch.arange(len(queries_BX), device=scores_BN.device))


def symmetric_info_nce(left_BX: torch.Tensor, right_BX: torch.Tensor, temperature: float) -> torch.Tensor:
    """The mean of both directions of in-batch `info_nce`."""
    return (info_nce(left_BX, right_BX, temperature) + info_nce(right_BX, left_BX, temperature)) / 2


def flops(weights_BV: torch.Tensor) -> torch.Tensor:
    """FLOPS regulariser: sum over lexicons of (mean over the batch of |w|) squared (Paria et al., 2020).

    Trap: on L2-normalised rows it is bounded by 1 and hardly acts at the published weight of 0.002.
    """
    return weights_BV.abs().mean(dim=0).square().sum()


def masked_token_loss(logits_MV: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over masked tokens; 0 (with gradient) when nothing was masked."""
    return F.cross_entropy(logits_MV, targets_M.long(), reduction="sum") / max(len(targets_M), 1)
