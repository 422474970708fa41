"""The losses, each checked against its textbook formula in float64.

Over several processes each gives its share, such that the mean over the processes is the loss of the global batch (`models.distributed`).
"""

import torch
from torch.nn import functional as F

from models.distributed import gather, mean, rows

IGNORED = -100
"""Target of a token that was not masked."""


def info_nce(
    queries_BX: torch.Tensor, keys_NX: torch.Tensor, temperature: float, queued_BH: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean cross-entropy of each query against its key among all keys of the global batch, from L2-normalised rows.

    -log exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t), averaged over the queries. `queries_BX`: of this process's slice; row i of it has its
    key at row i of the same slice of `keys_NX`. `queued_BH`: products of the queries with further keys, which are negatives only.
    """
    scores_BN = queries_BX @ keys_NX.T
    if queued_BH is not None:
        scores_BN = torch.cat([scores_BN, queued_BH.to(scores_BN.dtype)], dim=1)
    own = rows(len(queries_BX))
    return F.cross_entropy(scores_BN / temperature, torch.arange(own.start, own.stop, device=scores_BN.device))


def symmetric_info_nce(left_BX: torch.Tensor, right_BX: torch.Tensor, temperature: float) -> torch.Tensor:
    """The mean of both directions of in-batch `info_nce`; the negatives are those of all processes."""
    return (info_nce(left_BX, gather(right_BX), temperature) + info_nce(right_BX, gather(left_BX), temperature)) / 2


def flops(weights_BV: torch.Tensor) -> torch.Tensor:
    """FLOPS regulariser: sum over lexicons of (mean over the global batch of |w|) squared (Paria et al., 2020).

    Trap: on L2-normalised rows it is bounded by 1 and hardly acts at the published weight of 0.002.
    """
    return mean(weights_BV.abs().mean(dim=0)).square().sum()


def masked_token_loss(logits_MV: torch.Tensor, targets_M: torch.Tensor, masked: float | None = None) -> torch.Tensor:
    """Mean cross-entropy over masked tokens; 0 (with gradient) when nothing was masked.

    `masked`: what the sum is divided by, where these tokens are a part only: of all those of the batch, their number per process.
    """
    return F.cross_entropy(logits_MV, targets_M.long(), reduction="sum") / (
        (len(targets_M) if masked is None else masked) or 1
    )
