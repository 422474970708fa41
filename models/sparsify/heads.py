"""The sparse encoders: dense vectors (N, D) of images or texts to lexicon vectors (N, V).

    WordEncoder   w = log(1 + ReLU(E LN(W x) + b)), a matrix W for each side, word embeddings E of both (d2s)
    Autoencoder   top-k code of a tied autoencoder of both sides (CSR); its units are not words
    Lasso         non-negative lasso of the centred vector on the vocabulary's vectors (SpLiCE); nothing is trained

Notable choices
- Vectors are L2-normalised first, and start centred by the mean of their side: images and texts of a dual encoder lie
  in two separate cones.
- E starts as the words' own vectors, and W as the identity, so an untrained item starts with the words near it.
- Vectors are L2-normalised after the top k, just before every dot product, as those of LexLIP.
"""

import abc
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.lexicon.head import Pooled, retrieval_weights, strongest
from models.sparsify.config import SparsifyConfig

Side = Literal["image", "text"]
SIDES: tuple[Side, ...] = ("image", "text")
LOGIT = 8.0
"""Logit at the start of a word whose vector equals the item's."""
FISTA_STEPS = 100


class SparseEncoder(nn.Module, abc.ABC):
    """Base. config: its `image_top_k` and `text_top_k` hold as encoded. vocabulary: the names of the V lexicons."""

    def __init__(self, config: SparsifyConfig, dimension: int, vocabulary: list[str]):
        super().__init__()
        self.config, self.dense, self.vocabulary = config, dimension, vocabulary
        for side in SIDES:
            self.register_buffer(f"{side}_mean_D", torch.zeros(dimension))
        self.register_buffer("idf_V", torch.ones(len(vocabulary)))

    kind = "lexicon"

    @property
    def dimension(self) -> int:
        """Number of lexicons, V."""
        return len(self.vocabulary)

    def centred(self, dense_BD: torch.Tensor, side: Side) -> torch.Tensor:
        """L2-normalised, minus the mean of the side."""
        return F.normalize(dense_BD, dim=-1) - getattr(self, f"{side}_mean_D")

    @abc.abstractmethod
    def pooled(self, dense_BD: torch.Tensor, side: Side) -> Pooled:
        """Logits and lexicon weights (B, V) before the top k, not normalised."""

    def forward(self, dense_BD: torch.Tensor, side: Side) -> torch.Tensor:
        """Vectors (B, V) as encoded: top k, L2-normalised."""
        weights_BV = self.pooled(dense_BD, side).weights_BV
        return F.normalize(strongest(weights_BV, getattr(self.config, f"{side}_top_k")), dim=-1)

    @torch.no_grad()
    def encode(self, dense, side: Side) -> torch.Tensor:
        """Lexicon vectors (N, V) of dense vectors (N, D), an array or tensor of floats. Raises ValueError."""
        dense_BD = torch.tensor(np.asarray(dense, np.float32))
        if dense_BD.ndim != 2 or dense_BD.shape[1] != self.dense:
            raise ValueError(f"dense vectors of shape {tuple(dense_BD.shape)}; expected (N, {self.dense})")
        return self(dense_BD, side)

    def encode_image(self, dense) -> torch.Tensor:
        """`encode` for vectors of images."""
        return self.encode(dense, "image")

    def encode_text(self, dense) -> torch.Tensor:
        """`encode` for vectors of texts."""
        return self.encode(dense, "text")


class WordEncoder(SparseEncoder):
    """The head of d2s (Nguyen et al., 2024), a projection for each side. Used by all objectives that learn words."""

    def __init__(self, config: SparsifyConfig, dimension: int, vocabulary: list[str]):
        super().__init__(config, dimension, vocabulary)
        self.projection = nn.ModuleDict({side: nn.Linear(dimension, dimension) for side in SIDES})
        self.norm = nn.ModuleDict({side: nn.LayerNorm(dimension) for side in SIDES})
        self.embedding_VD = nn.Parameter(torch.zeros(self.dimension, dimension))
        self.bias = nn.ParameterDict({side: nn.Parameter(torch.full((self.dimension,), config.bias)) for side in SIDES})

    @torch.no_grad()
    def start(self, words_VD: torch.Tensor) -> None:
        """Sets the start of the training: the words' vectors (V, D), unit length, and the means of the sides."""
        self.embedding_VD.copy_(words_VD * LOGIT / self.dense**0.5)
        for side in SIDES:
            self.projection[side].weight.copy_(torch.eye(self.dense))
            self.projection[side].bias.copy_(-getattr(self, f"{side}_mean_D"))

    def pooled(self, dense_BD: torch.Tensor, side: Side) -> Pooled:
        hidden_BD = self.norm[side](self.projection[side](F.normalize(dense_BD, dim=-1)))
        logits_BV = F.linear(hidden_BD, self.embedding_VD, self.bias[side])
        return Pooled(logits_BV, retrieval_weights(logits_BV))


class Autoencoder(SparseEncoder):
    """The tied top-k autoencoder of CSR (ICML 2025), one for both sides: code = ReLU(W x + b), vector = code W."""

    def __init__(self, config: SparsifyConfig, dimension: int, vocabulary: list[str]):
        super().__init__(config, dimension, vocabulary)
        self.matrix_VD = nn.Parameter(F.normalize(torch.randn(self.dimension, dimension), dim=-1))
        self.bias_V = nn.Parameter(torch.zeros(self.dimension))
        self.register_buffer("silent_V", torch.zeros(self.dimension, dtype=torch.int64))

    def pooled(self, dense_BD: torch.Tensor, side: Side) -> Pooled:
        logits_BV = F.linear(self.centred(dense_BD, side), self.matrix_VD, self.bias_V)
        return Pooled(logits_BV, torch.relu(logits_BV))

    def decode(self, code_BV: torch.Tensor) -> torch.Tensor:
        """Centred dense vectors (B, D) of codes."""
        return code_BV @ self.matrix_VD


class Lasso(SparseEncoder):
    """SpLiCE (Bhalla et al., 2024): min over w >= 0 of |C w - x|^2 / 2 + penalty |w|, x centred and of unit length.

    C: vectors of the words, unit length. Solved by FISTA with a fixed number of steps.
    """

    def __init__(self, config: SparsifyConfig, dimension: int, vocabulary: list[str]):
        super().__init__(config, dimension, vocabulary)
        self.register_buffer("words_VD", torch.zeros(self.dimension, dimension))
        self.register_buffer("penalty", torch.tensor(config.splice_penalty or 1.0))
        self.register_buffer("step", torch.tensor(1.0))

    @torch.no_grad()
    def start(self, words_VD: torch.Tensor) -> None:
        """Sets the words' vectors (V, D), unit length."""
        self.words_VD.copy_(words_VD)
        self.step.copy_(step_of(words_VD))

    @torch.no_grad()
    def fit(self, dense_BD: torch.Tensor) -> None:
        """Sets the penalty at which images have `image_top_k` lexicons on average, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(12):
            self.penalty.fill_((low + high) / 2)
            active = (self.pooled(dense_BD, "image").weights_BV > 0).sum(dim=-1).float().mean()
            low, high = (float(self.penalty), high) if active > self.config.image_top_k else (low, float(self.penalty))

    def pooled(self, dense_BD: torch.Tensor, side: Side) -> Pooled:
        vectors_BD = F.normalize(self.centred(dense_BD, side), dim=-1)
        weights_BV = lasso(self.words_VD, vectors_BD, self.penalty, self.step)
        return Pooled(weights_BV, weights_BV)


def step_of(words_VD: torch.Tensor) -> torch.Tensor:
    """Largest step of a descent on |C w - x|^2 / 2 that converges: 1 over the largest eigenvalue of C C^T."""
    return 1 / torch.linalg.eigvalsh(words_VD.T @ words_VD)[-1]


def lasso(
    words_VD: torch.Tensor,
    vectors_BD: torch.Tensor,
    penalty: torch.Tensor,
    step: torch.Tensor,
    steps: int = FISTA_STEPS,
) -> torch.Tensor:
    """Weights (B, V) of the non-negative lasso, by FISTA (Beck and Teboulle, 2009)."""
    weights_BV = look_BV = torch.zeros_like(vectors_BD @ words_VD.T)  # len() would fix B in an export
    momentum = 1.0
    for _ in range(steps):
        gradient_BV = (look_BV @ words_VD - vectors_BD) @ words_VD.T + penalty
        next_BV = torch.relu(look_BV - step * gradient_BV)
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        look_BV = next_BV + (momentum - 1) / grown * (next_BV - weights_BV)
        weights_BV, momentum = next_BV, grown
    return weights_BV


def create(config: SparsifyConfig, dimension: int, vocabulary: list[str]) -> SparseEncoder:
    """A new encoder of a configuration, in training mode, with random weights of `config.seed`."""
    torch.manual_seed(config.seed)
    kinds = {"csr": Autoencoder, "splice": Lasso}
    return kinds.get(config.objective, WordEncoder)(config, dimension, vocabulary)
