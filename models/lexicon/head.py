"""The lexicon head and its two poolings.

One max over tokens of the head's logits feeds both: the *retrieval* vector is log(1 + ReLU(.)) of it, the *bottleneck*
is the softmax of it (Luo et al., 2023, section 3.1). ReLU and log1p are monotonic, so pooling before them is the same as
after.
"""

from typing import Literal, NamedTuple

import torch
from torch import nn

from models.config import Way
from models.lexicon.max_linear import max_linear
from models.towers.transformer import BertConfig, BertPredictionHeadTransform

LEAST_SUM = 1e-6
"""Of retrieval weights that are divided by their sum: an item without any keeps a finite gradient."""


class Pooled(NamedTuple):
    """What a head says of each item as a whole: the highest logit of each lexicon (B, V), for the bottleneck, and the lexicon weights
    (B, V), not normalised, for retrieval."""

    logits_BV: torch.Tensor
    weights_BV: torch.Tensor


class LexiconHead(nn.Module):
    """BERT's masked-language-model head: dense, activation, LayerNorm, then a score for every lexicon.

    The output matrix may be the word-embedding matrix (tied) or a copy of it. With `identity_start` the dense layer
    starts as the identity, so that at a tied head a word scores highest on itself: a text starts as its own bag of words.

    Args:
        config: gives the width, activation and vocabulary size.
        embedding_VD: word embeddings; tied when `tie`, else copied.
        bias: initial value of the bias of every lexicon; a negative one starts sparse.
        pooling: of the retrieval weights over tokens; "sum" adds up log(1 + ReLU(logit)), and holds all logits at once.

    `way`: how the max is computed (`models.lexicon.max_linear`); no part of what the model is.
    """

    way: Way = "auto"

    def __init__(
        self,
        config: BertConfig,
        embedding_VD: nn.Parameter,
        *,
        tie: bool,
        bias: float,
        identity_start: bool,
        pooling: Literal["max", "sum"] = "max",
    ):
        super().__init__()
        self.pooling = pooling
        self.transform = BertPredictionHeadTransform(config)
        if identity_start:
            nn.init.eye_(self.transform.dense.weight)
            nn.init.zeros_(self.transform.dense.bias)
        self.weight_VD = embedding_VD if tie else nn.Parameter(embedding_VD.detach().clone())
        self.bias_V = nn.Parameter(torch.full((config.vocab_size,), bias))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (..., D) to logits (..., V)."""
        return nn.functional.linear(self.transform(hidden), self.weight_VD, self.bias_V)

    def pooled(self, hidden_BLD: torch.Tensor, mask_BL: torch.Tensor | None = None) -> Pooled:
        """Highest logit and weight of each lexicon over the tokens; `mask_BL` is False at those left out, such as padding."""
        states_BLD = self.transform(hidden_BLD)
        highest_BV = max_linear(states_BLD, self.weight_VD, self.bias_V, mask_BL, self.way)
        if self.pooling == "max":
            return Pooled(highest_BV, retrieval_weights(highest_BV))
        weights_BLV = retrieval_weights(nn.functional.linear(states_BLD, self.weight_VD, self.bias_V).float())
        if mask_BL is not None:
            weights_BLV = weights_BLV * mask_BL[..., None]
        return Pooled(highest_BV, weights_BLV.sum(dim=1))


def set_way(model: nn.Module, way: Way) -> None:
    """How all lexicon heads of a model, or of its objective, are computed from now on."""
    for module in model.modules():
        if isinstance(module, LexiconHead):
            module.way = way


def retrieval_weights(pooled_BV: torch.Tensor) -> torch.Tensor:
    """Lexicon weights (B, V), non-negative: log(1 + ReLU(max over tokens)). Normalise just before a dot product."""
    return torch.log1p(torch.relu(pooled_BV))


def bag_of_words(pooled_BV: torch.Tensor, embedding_VD: torch.Tensor) -> torch.Tensor:
    """The continuous bag of words (B, D): softmax over the vocabulary of the *raw* max logits, times the word embeddings.

    No ReLU, no log; the embeddings' gradient is stopped, so the decoder's loss reaches the encoder through the lexicon
    weights alone.
    """
    return pooled_BV.softmax(dim=-1) @ embedding_VD.detach().float()


def bag_of_weights(weights_BV: torch.Tensor, embedding_VD: torch.Tensor) -> torch.Tensor:
    """The bag of words (B, D) by retrieval weights in place of the softmax: divided by their sum, times the embeddings (gradient stopped).

    An item without active lexicons has the zero vector.
    """
    shares_BV = weights_BV / weights_BV.sum(dim=-1, keepdim=True).clamp(min=LEAST_SUM)
    return shares_BV @ embedding_VD.detach().float()


def active_lexicons(weights_BV: torch.Tensor) -> torch.Tensor:
    """Number of lexicons with a positive weight, (B,) int64."""
    return (weights_BV > 0).sum(dim=-1)
