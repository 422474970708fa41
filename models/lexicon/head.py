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
"""Lower bound of a sum of weights that is a divisor: keeps the gradient of an item without active lexicons finite."""


class Pooled(NamedTuple):
    """Output of a head for each item: the highest logit of each lexicon, (B, V), for the bottleneck, and the lexicon
    weights, (B, V), not normalised, for retrieval."""

    logits_BV: torch.Tensor
    weights_BV: torch.Tensor


class LexiconHead(nn.Module):
    """BERT's masked-language-model head: dense layer, activation, LayerNorm, linear layer to V logits.

    Args:
        config: sets the width, activation and vocabulary size.
        embedding_TD: word embeddings, whose rows at `lexicon_V` are the matrix of the last layer: tied if `tie`, else
            copied.
        lexicon_V: token id of each lexicon, int64; None: every token is a lexicon.
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
        embedding_TD: nn.Parameter,
        lexicon_V: torch.Tensor | None = None,
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
        self.register_buffer("lexicon_V", lexicon_V, persistent=False)
        if tie and lexicon_V is not None:
            self.embedding_TD = embedding_TD
        else:
            self.weight_VD = embedding_TD if tie else nn.Parameter(rows_of(embedding_TD, lexicon_V).detach().clone())
        lexicons = config.vocab_size if lexicon_V is None else len(lexicon_V)
        self.bias_V = nn.Parameter(torch.full((lexicons,), bias))

    @property
    def matrix_VD(self) -> torch.Tensor:
        """The matrix of the last layer."""
        return rows_of(self.embedding_TD, self.lexicon_V) if hasattr(self, "embedding_TD") else self.weight_VD

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (..., D) to logits (..., V)."""
        return nn.functional.linear(self.transform(hidden), self.matrix_VD, self.bias_V)

    def pooled(self, hidden_BLD: torch.Tensor, mask_BL: torch.Tensor | None = None) -> Pooled:
        """Pools hidden states over the tokens at which `mask_BL` is True; all without a mask."""
        states_BLD, matrix_VD = self.transform(hidden_BLD), self.matrix_VD
        highest_BV = max_linear(states_BLD, matrix_VD, self.bias_V, mask_BL, self.backend)
        if self.pooling == "max":
            return Pooled(highest_BV, retrieval_weights(highest_BV))
        weights_BLV = retrieval_weights(nn.functional.linear(states_BLD, matrix_VD, self.bias_V).float())
        if mask_BL is not None:
            weights_BLV = weights_BLV * mask_BL[..., None]
        return Pooled(highest_BV, weights_BLV.sum(dim=1))


def rows_of(table_T: torch.Tensor, lexicon_V: torch.Tensor | None) -> torch.Tensor:
    """The rows of a table of all tokens that belong to lexicons; all without `lexicon_V`."""
    return table_T if lexicon_V is None else table_T[lexicon_V]


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


def bag_of_tokens(lexicons_BM: torch.Tensor, lexicons: int, how: Literal["sum", "once"]) -> torch.Tensor:
    """How often each lexicon occurs in each row, (B, V) float32, or 1 where it does ("once").

    lexicons_BM: the lexicon of each token, -1 for none.
    """
    places_BM = torch.where(lexicons_BM < 0, lexicons, lexicons_BM)  # one more column, for tokens that are no lexicons
    count_BV = torch.zeros(lexicons_BM.shape[0], lexicons + 1, device=lexicons_BM.device)  # len() fixes B in an export
    ones_BM = torch.ones_like(places_BM, dtype=torch.float32)
    if how == "sum":
        return count_BV.scatter_add(1, places_BM, ones_BM)[:, :lexicons]
    return count_BV.scatter(1, places_BM, ones_BM)[:, :lexicons]


def strongest(weights_BV: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """The `top_k` highest weights of each item, the others 0; all without `top_k`."""
    if top_k is None or top_k >= weights_BV.shape[1]:
        return weights_BV
    highest_BK, places_BK = weights_BV.topk(top_k, dim=1, sorted=False)
    return torch.zeros_like(weights_BV).scatter(1, places_BK, highest_BK)


def active_lexicons(weights_BV: torch.Tensor) -> torch.Tensor:
    """Number of lexicons with a positive weight, int64 (B,)."""
    return (weights_BV > 0).sum(dim=-1)
