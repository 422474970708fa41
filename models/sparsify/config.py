"""Configuration of a sparse encoder over dense vectors."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from models.config import Share, Weight
from models.errors import InputError
from models.towers.config import Count, Positive

Objective = Literal["d2s", "d2s_joint", "csr", "splice", "caption_words"]
OBJECTIVES = ("d2s", "d2s_joint", "csr", "splice", "caption_words")
WORDLESS = ("csr",)
"""Objectives whose units are not words."""


@dataclass(frozen=True)
class CsrConfig:
    """The autoencoder of CSR. units: number of units; None: four times the dense dimension, as published.

    wider, dead: weights of the reconstruction by 4k units and by dead units (published: 1/8, 1/32). contrast: weight
    of the contrast between the codes of pairs. dead_after: steps without activity after which a unit is dead.
    """

    units: Count | None = None
    wider: Weight = 1 / 8
    dead: Weight = 1 / 32
    contrast: Weight = 1.0
    dead_after: Count = 30


@dataclass(frozen=True)
class SparsifyConfig:
    """How dense vectors become sparse, and how that is trained.

    objective: `models.sparsify.objective` has the formulas.
    image_top_k, text_top_k: highest weights that an item keeps, in training and as encoded; None: all. top_k_anneal:
        share of the run in which the number shrinks from all lexicons to these, geometrically.
    temperature: of the softmax over dense scores; None: the one at which the dense scores predict the training pairs
        best. sparse_temperature: start of the temperature of the sparse scores, which is learned.
    regulariser: "l1" as published for d2s, or "flops". regularisation: its weight; it grows quadratically from 0 over
        the share `ramp` of the run.
    mask_anneal: share of the run in which the probability that lexicons beyond an item's own words are masked falls
        from 1 to 0; 0: never masked.
    noise: length of the random vector that is added to each dense vector of unit length, anew in each step: the dense
        scores of vectors that no item has are known too, so distillation sees more than the pairs.
    distillation, labels: d2s: weights of the cross-entropy to the dense scores, and to the pairs.
    image_words, text_words: weights of the caption-word loss of each side (softmax form), with any objective of words.
    caption_loss, contrast: caption_words: weights of the loss of V-SPLADE, and of the contrast.
    splice_penalty: of the lasso; None: fitted so that an image has `image_top_k` lexicons on average.
    bias: start of the bias of each lexicon.
    """

    objective: Objective = "d2s"
    seed: int = 0
    steps: Count = 400
    batch: Annotated[int, Field(ge=2)] = 256
    lr: Positive = 1e-3
    warmup: Share = 0.1
    image_top_k: Count | None = 32
    text_top_k: Count | None = 32
    top_k_anneal: Share = 0.7
    temperature: Positive | None = None
    sparse_temperature: Positive = 0.05
    regulariser: Literal["l1", "flops"] = "l1"
    regularisation: Weight = 0.03
    ramp: Share = 1.0
    mask_anneal: Share = 1.0
    noise: Weight = 0.2
    distillation: Weight = 1.0
    labels: Weight = 0.0
    image_words: Weight = 1.0
    text_words: Weight = 1.0
    caption_loss: Weight = 5.0
    contrast: Weight = 1.0
    splice_penalty: Positive | None = None
    bias: float = 0.0
    weight_decay: Weight = 0.0
    csr: CsrConfig = CsrConfig()

    def __post_init__(self):
        if self.objective == "splice" and self.splice_penalty is None and self.image_top_k is None:
            raise InputError("splice_penalty: null is fitted to image_top_k; expected a number for one of them")

    @property
    def trained(self) -> bool:
        """Whether the objective has weights to train."""
        return self.objective != "splice"


def recipe(objective: str) -> dict:
    """The values of an objective that differ from the defaults."""
    return dict(RECIPES.get(objective, {}))


RECIPES: dict[str, dict] = {
    "csr": {"noise": 0.0, "regularisation": 0.0, "mask_anneal": 0.0, "image_words": 0.0, "text_words": 0.0},
    "caption_words": {"image_words": 0.0},
}
