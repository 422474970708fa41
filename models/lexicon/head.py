"""The lexicon head and its two poolings.

Both use one max over tokens of the head's logits: the retrieval vector is log(1 + ReLU(max)), the bottleneck is
softmax(max) (Luo et al., 2023, section 3.1). ReLU and log1p are monotonic, so they commute with the max.
"""

from typing import Literal, NamedTuple

import torch
from torch import nn

from models.config import Backend
from models.lexicon.max_linear import max_linear
from models.towers.transformer import BertConfig, BertPredictionHeadTransform

LEAST_SUM = 1e-6
"""Lower bound of a sum of retrieval weights: keeps the gradient of an item without active lexicons finite."""


class Pooled(NamedTuple):
    """Output of a head for each item: the highest logit of each lexicon, (B, V), for the bottleneck, and the lexicon
    weights, (B, V), not normalised, for retrieval."""

    logits_BV: torch.Tensor
    weights_BV: torch.Tensor


class LexiconHead(nn.Module):
    """BERT's masked-language-model head: dense layer, activation, LayerNorm, linear layer to V logits.

    Args:
        config: sets the width, activation and vocabulary size.
        embedding_VD: word embeddings, the matrix of the last layer: tied if `tie`, else copied.
        bias: initial bias of every lexicon; with a negative one the vectors start sparse.
        identity_start: the dense layer starts as the identity. With a tied matrix a word then has its own highest
            logit, so a text starts as its own bag of words.
        pooling: of the retrieval weights over tokens. "sum" adds log(1 + ReLU(logit)) and holds all (B, L, V) logits.

    Attributes:
        backend: computes the max over tokens (`models.lexicon.max_linear`); not part of the model's identity.
    """

    backend: Backend = "auto"

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
        """Pools hidden states over the tokens at which `mask_BL` is True; all without a mask."""
        states_BLD = self.transform(hidden_BLD)
        highest_BV = max_linear(states_BLD, self.weight_VD, self.bias_V, mask_BL, self.backend)
        if self.pooling == "max":
            return Pooled(highest_BV, retrieval_weights(highest_BV))
        weights_BLV = retrieval_weights(nn.functional.linear(states_BLD, self.weight_VD, self.bias_V).float())
        if mask_BL is not None:
            weights_BLV = weights_BLV * mask_BL[..., None]
        return Pooled(highest_BV, weights_BLV.sum(dim=1))


def set_backend(model: nn.Module, backend: Backend) -> None:
    """Sets the backend of all lexicon heads of a model or of its objective."""
    for module in model.modules():
        if isinstance(module, LexiconHead):
            module.backend = backend


def retrieval_weights(pooled_BV: torch.Tensor) -> torch.Tensor:
    """Lexicon weights log(1 + ReLU(logit)), non-negative, not normalised."""
    return torch.log1p(torch.relu(pooled_BV))


def bag_of_words(pooled_BV: torch.Tensor, embedding_VD: torch.Tensor) -> torch.Tensor:
    """Continuous bag of words, (B, D): softmax over the vocabulary of the raw max logits, times the word embeddings.

    No ReLU and no log. The embeddings get no gradient, so the decoder's loss reaches the encoder only through the
    lexicon.
    """
    return pooled_BV.softmax(dim=-1) @ embedding_VD.detach().float()


def bag_of_weights(weights_BV: torch.Tensor, embedding_VD: torch.Tensor) -> torch.Tensor:
    """Bag of words, (B, D), with retrieval weights divided by their sum in place of the softmax.

    The embeddings get no gradient. An item without active lexicons gets the zero vector.
    """
    shares_BV = weights_BV / weights_BV.sum(dim=-1, keepdim=True).clamp(min=LEAST_SUM)
    return shares_BV @ embedding_VD.detach().float()


def active_lexicons(weights_BV: torch.Tensor) -> torch.Tensor:
    """Number of lexicons with a positive weight, int64 (B,)."""
    return (weights_BV > 0).sum(dim=-1)
