"""The lexicon head and its two poolings.

One max over tokens of the head's logits feeds both: the *retrieval* vector is log(1 + ReLU(.)) of it, the *bottleneck*
is the softmax of it (Luo et al., 2023, section 3.1). ReLU and log1p are monotonic, so pooling before them is the same as
after.
"""

import torch
from torch import nn

from models.backbones import BertConfig, BertPredictionHeadTransform

MASKED_OUT = -1e4
"""Logit of a padding token before the max: below every real logit, and finite in bfloat16."""


class LexiconHead(nn.Module):
    """BERT's masked-language-model head: dense, activation, LayerNorm, then a score for every lexicon.

    The output matrix may be the word-embedding matrix (tied) or a copy of it. With `identity_start` the dense layer
    starts as the identity, so that at a tied head a word scores highest on itself: a text starts as its own bag of words.

    Args:
        config: gives the width, activation and vocabulary size.
        embedding_VD: word embeddings; tied when `tie`, else copied.
        bias: initial value of the bias of every lexicon; a negative one starts sparse.
    """

    def __init__(self, config: BertConfig, embedding_VD: nn.Parameter, *, tie: bool, bias: float, identity_start: bool):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        if identity_start:
            nn.init.eye_(self.transform.dense.weight)
            nn.init.zeros_(self.transform.dense.bias)
        self.weight_VD = embedding_VD if tie else nn.Parameter(embedding_VD.detach().clone())
        self.bias_V = nn.Parameter(torch.full((config.vocab_size,), bias))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (..., D) to logits (..., V)."""
        return nn.functional.linear(self.transform(hidden), self.weight_VD, self.bias_V)

    def pooled(self, hidden_BLD: torch.Tensor, mask_BL: torch.Tensor | None = None) -> torch.Tensor:
        """Highest logit of each lexicon over the tokens, (B, V); `mask_BL` is False at padding."""
        logits_BLV = self(hidden_BLD)
        if mask_BL is not None:
            logits_BLV = logits_BLV.masked_fill(~mask_BL[..., None], MASKED_OUT)
        return logits_BLV.max(dim=1).values.float()


def retrieval_weights(pooled_BV: torch.Tensor) -> torch.Tensor:
    """Lexicon weights (B, V), non-negative: log(1 + ReLU(max over tokens)). Normalise just before a dot product."""
    return torch.log1p(torch.relu(pooled_BV))


def bag_of_words(pooled_BV: torch.Tensor, embedding_VD: torch.Tensor) -> torch.Tensor:
    """The continuous bag of words (B, D): softmax over the vocabulary of the *raw* max logits, times the word embeddings.

    No ReLU, no log; the embeddings' gradient is stopped, so the decoder's loss reaches the encoder through the lexicon
    weights alone.
    """
    return pooled_BV.softmax(dim=-1) @ embedding_VD.detach().float()


def active_lexicons(weights_BV: torch.Tensor) -> torch.Tensor:
    """Number of lexicons with a positive weight, (B,) int64."""
    return (weights_BV > 0).sum(dim=-1)
