"""The losses, each tested against its textbook formula in float64, and the schedule of the top-k lexicons.

With several processes, the mean of a loss over the processes is the loss of the global batch (`models.distributed`).
"""

import math

import torch
from torch.nn import functional as F

from models.distributed import gather, mean, rows
from models.lexicon.head import LEAST_SUM

DF_CUTOFF, DF_SLOPE = 0.1, 10
"""Alpha and beta of DF-FLOPS."""


def info_nce(
    queries_BX: torch.Tensor, keys_NX: torch.Tensor, temperature: float, queued_BH: torch.Tensor | None = None
) -> torch.Tensor:
    """InfoNCE (van den Oord et al., 2018): mean over i of -log(exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t)).

    Args:
        queries_BX: L2-normalised queries of this process's slice of the batch.
        keys_NX: L2-normalised keys of the global batch; the key of query i is row i of the same slice.
        temperature: t.
        queued_BH: products of the queries with further keys, which are negatives only.
    """
    scores_BN = queries_BX @ keys_NX.T
    if queued_BH is not None:
        scores_BN = torch.cat([scores_BN, queued_BH.to(scores_BN.dtype)], dim=1)
    own = rows(len(queries_BX))
    return F.cross_entropy(scores_BN / temperature, torch.arange(own.start, own.stop, device=scores_BN.device))


def symmetric_info_nce(left_BX: torch.Tensor, right_BX: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean of `info_nce` in both directions, with the pairs of all processes as negatives."""
    return (info_nce(left_BX, gather(right_BX), temperature) + info_nce(right_BX, gather(left_BX), temperature)) / 2


def flops(weights_BV: torch.Tensor) -> torch.Tensor:
    """FLOPS regulariser (Paria et al., 2020): sum over lexicons of (mean over the global batch of |w|) squared.

    Trap: on L2-normalised rows it is at most 1 and has little effect at the published weight of 0.002.
    """
    return mean(weights_BV.abs().mean(dim=0)).square().sum()


def df_flops(weights_BV: torch.Tensor) -> torch.Tensor:
    """DF-FLOPS (Porco et al., 2025, arXiv 2505.15070): FLOPS, each mean times a factor of the lexicon's frequency.

    With f the share of items that have the lexicon, the factor is 1 / (1 + (f^(log 2 / log alpha) - 1)^beta): near 0
    for rare lexicons, 1/2 at f = alpha, 1 for those that all have. f is that of the global batch; the paper counts a
    validation set every 100 steps.
    """
    frequency_V = mean((weights_BV > 0).float().mean(dim=0)).clamp(LEAST_SUM, 1)
    factor_V = 1 / (1 + (frequency_V ** (math.log(2) / math.log(DF_CUTOFF)) - 1) ** DF_SLOPE)
    return (factor_V * mean(weights_BV.abs().mean(dim=0))).square().sum()


def l1(weights_BV: torch.Tensor) -> torch.Tensor:
    """Mean over the global batch of the sum of |w|."""
    return mean(weights_BV.abs().mean(dim=0)).sum()


def word_loss(
    logits_BV: torch.Tensor, count_BV: torch.Tensor, idf_V: torch.Tensor, form: str, absent: float, pairs: int
) -> torch.Tensor:
    """The caption-word loss (`models.config.WordsConfig`), mean over pairs; 0 for an image without words.

    count_BV: how often each lexicon occurs in an image's captions. form, absent: see there.
    pairs: divisor of the sum; for a part of a batch, the pairs of the whole batch.
    """
    present_BV = count_BV * idf_V
    total_B1 = present_BV.sum(dim=-1, keepdim=True)
    share_B1 = torch.where(total_B1 > 0, 1 / total_B1.clamp(min=LEAST_SUM), 0.0)
    if form == "softmax":
        loss_BV = present_BV * F.log_softmax(logits_BV, dim=-1)
    else:
        others_BV = absent * idf_V * (count_BV == 0)
        loss_BV = present_BV * F.logsigmoid(logits_BV) + others_BV * F.logsigmoid(-logits_BV)
    return -(share_B1 * loss_BV).sum() / pairs


def masked_token_loss(logits_MV: torch.Tensor, targets_M: torch.Tensor, masked: float | None = None) -> torch.Tensor:
    """Mean cross-entropy over masked tokens; 0 (with gradient) if no token is masked.

    masked: divisor of the sum, by default M. For a part of a batch: masked tokens of the global batch per process.
    """
    count = len(targets_M) if masked is None else masked
    return F.cross_entropy(logits_MV, targets_M.long(), reduction="sum") / (count or 1)


def shrinking(top_k: int | None, lexicons: int, share: float, progress: float) -> int | None:
    """Lexicons kept at a point of the run: from all of them to `top_k`, geometrically, over `share` of the run."""
    if top_k is None or top_k >= lexicons:
        return None
    done = min(progress / share, 1.0) if share else 1.0
    return round(lexicons * (top_k / lexicons) ** done)
