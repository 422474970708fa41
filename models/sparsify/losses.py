"""Losses over scores of pairs. Row i of `scores_BN` is the text or image i against all items of the other side.

Images are rows of `scores_IT`, texts its columns, so text to image is its transpose.
"""

import torch
from torch.nn import functional as F


def soft_cross_entropy(scores_BN: torch.Tensor, target_BN: torch.Tensor) -> torch.Tensor:
    """Mean over rows of the cross-entropy of softmax(scores) to target rows, each of which sums to 1."""
    return -(target_BN * F.log_softmax(scores_BN, dim=-1)).sum(dim=-1).mean()


def distillation(scores_IT: torch.Tensor, teacher_IT: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the scores to the softmax of the teacher's, mean of both directions (Nguyen et al., 2024).

    Both are divided by their temperatures already. The teacher gets no gradient.
    """
    teacher_IT = teacher_IT.detach()
    to_texts = soft_cross_entropy(scores_IT, teacher_IT.softmax(dim=-1))
    to_images = soft_cross_entropy(scores_IT.T, teacher_IT.T.softmax(dim=-1))
    return (to_texts + to_images) / 2


def pair_loss(scores_IT: torch.Tensor) -> torch.Tensor:
    """InfoNCE of scores whose diagonal are the pairs, mean of both directions; items beyond the pairs are negatives."""
    pairs = min(scores_IT.shape)
    own = torch.arange(pairs, device=scores_IT.device)
    return (F.cross_entropy(scores_IT[:pairs], own) + F.cross_entropy(scores_IT.T[:pairs], own)) / 2


def joint_loss(dense_IT: torch.Tensor, sparse_IT: torch.Tensor, dense_share: float) -> torch.Tensor:
    """Joint learning of sparse and dense scores (arXiv 2508.16707).

    The sum s = a dense + (1 - a) sparse learns the pairs, as both parts do, and is the teacher of both parts, without
    gradient. Both directions throughout. a: `dense_share`.
    """
    both_IT = dense_share * dense_IT + (1 - dense_share) * sparse_IT
    loss = sum(pair_loss(scores_IT) for scores_IT in (dense_IT, sparse_IT, both_IT))
    return loss + sum(distillation(scores_IT, both_IT) for scores_IT in (dense_IT, sparse_IT))


def caption_loss(logits_BV: torch.Tensor, caption_BV: torch.Tensor) -> torch.Tensor:
    """Caption loss of V-SPLADE (arXiv 2605.30917): mean over images of -sum_v o_v log sigmoid(h_v).

    logits_BV: h, of the images. caption_BV: o, lexicon weights of their captions, divided by their sum here; without
    gradient. Trap: it has no term for absent words; the contrast and the regulariser must hold those down.
    """
    target_BV = caption_BV.detach()
    target_BV = target_BV / target_BV.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    return -(target_BV * F.logsigmoid(logits_BV)).sum(dim=-1).mean()


def reconstruction(made_BD: torch.Tensor, dense_BD: torch.Tensor) -> torch.Tensor:
    """Squared error over the batch, divided by the squared length of the vectors."""
    return (made_BD - dense_BD).square().sum() / dense_BD.square().sum().clamp(min=1e-12)


def annealed(share: float, progress: float) -> float:
    """1 at the start, falling linearly to 0 at `share` of the run; 0 throughout where `share` is 0."""
    return max(0.0, 1.0 - progress / share) if share else 0.0
