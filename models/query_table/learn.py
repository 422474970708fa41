"""Learns the weights of a query table from pairs of captions and images, whose vectors stay as they are.

Two forms:
    learned   Li-LSR (Nardini et al., 2025, arXiv 2505.01452): softplus of a linear map of the token's embedding, which
              is frozen. D + 1 parameters; a token without training captions gets a weight too.
    free      softplus of a parameter per token: the simplest baseline. A token without training captions keeps the
              weight 1 of the start.

Li-LSR trains the encoder of the documents too; here images are fixed, and the loss is the symmetric InfoNCE of their
model, over L2-normalised vectors at its temperature. Training ends with one number per token: its weight does not
depend on the other tokens of the text.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.config import Count, Positive
from models.losses import symmetric_info_nce
from models.query_table import Method

START = math.log(math.e - 1)
"""softplus(START) = 1: all tokens start with equal weights."""


@dataclass(frozen=True)
class LearnConfig:
    """steps of Adam over batches of `batch` pairs; the learning rate falls linearly from `lr` to 0."""

    steps: Count = 400
    batch: Count = 512
    lr: Positive = 0.02
    seed: int = 0


class PairBatch(NamedTuple):
    """B pairs over the U lexicons that occur in the captions of the batch.

    lexicons_U: int64. words_BU: 1 where a caption has the lexicon as a token. images_BU: weights of the images, columns
    of L2-normalised vectors; those of other lexicons meet no caption of the batch.
    """

    lexicons_U: np.ndarray
    words_BU: np.ndarray
    images_BU: np.ndarray


class TokenWeights(nn.Module):
    """Positive weights of lexicons, (U,) for ids (U,).

    method: "learned" or "free". embedding_VD: frozen embeddings of the lexicons.
    """

    def __init__(self, method: Method, embedding_VD: torch.Tensor):
        super().__init__()
        free, (lexicons, width) = method == "free", embedding_VD.shape
        self.register_buffer("embedding_VD", None if free else embedding_VD.detach().float().clone())
        self.slope = nn.Parameter(torch.full((lexicons,), START) if free else torch.zeros(width))
        self.bias = None if free else nn.Parameter(torch.tensor(START))

    def forward(self, lexicons_U: torch.Tensor) -> torch.Tensor:
        if self.bias is None:
            return F.softplus(self.slope[lexicons_U])
        return F.softplus(self.embedding_VD[lexicons_U] @ self.slope + self.bias)


def batch_loss(weights: TokenWeights, batch: PairBatch, temperature: float) -> torch.Tensor:
    """Symmetric InfoNCE between the captions' vectors by the table and the images' vectors."""
    lexicons_U, words_BU, images_BU = map(torch.from_numpy, batch)
    queries_BU = F.normalize(words_BU * weights(lexicons_U), dim=-1)
    return symmetric_info_nce(queries_BU, images_BU, temperature)


def learn(weights: TokenWeights, batches: Iterable[PairBatch], config: LearnConfig, temperature: float) -> np.ndarray:
    """Trains in place, one step per batch; returns the table, float32 (V,)."""
    optimiser = torch.optim.Adam(weights.parameters(), lr=config.lr)
    for step, batch in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = config.lr * max(0.0, 1 - step / config.steps)
        optimiser.zero_grad()
        batch_loss(weights, batch, temperature).backward()
        optimiser.step()
    return table_of(weights)


@torch.no_grad()
def table_of(weights: TokenWeights) -> np.ndarray:
    """The weight of every lexicon, float32 (V,)."""
    count = len(weights.slope if weights.bias is None else weights.embedding_VD)
    return weights(torch.arange(count)).numpy()
