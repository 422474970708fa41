"""Configuration of the models. LexLIP and CLIP share `image` and `text`, so their towers have the same sizes.

Text towers differ unless `clip.towers` is "lexlip": LexLIP's is a BERT, CLIP's a transformer of open_clip.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pydantic import Field

from models.errors import InputError
from models.towers.config import (
    ARCHITECTURE,
    EFFICIENTNET,
    Count,
    ImageConfig,
    ImageTopConfig,
    Positive,
    TextConfig,
    TopConfig,
)

__all__ = ["ARCHITECTURE", "EFFICIENTNET", "ImageTopConfig", "TopConfig"]
"""Of the encoders, imported from here by other modules."""

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Phase = Literal["bottleneck", "momentum", "contrastive"]
PHASES: dict[str, tuple[Phase, ...]] = {"lexlip": get_args(Phase), "clip": ("contrastive",)}
"""Kind of a model -> phases of training that it has."""

Backend = Literal["auto", "tiled", "triton"]
"""Backend of the lexicon head (`models.lexicon.max_linear`): torch, one tile at a time, or Triton kernels. "auto"
chooses the kernels for tensors on a GPU if triton is installed."""


@dataclass(frozen=True)
class HeadConfig:
    """The lexicon heads.

    text_bias, image_bias: initial bias of every lexicon; with a negative one the vectors start sparse.
    identity_start: the dense layer starts as the identity, so a text starts as its own bag of words (not published).
    shared: both sides use the head of the text, with its bias; as published, the image has its own copy.
    tokens: "all" as published, or "content", which excludes [CLS] and [SEP] from the pooling.
    pooling: "max" over tokens as published, or "sum" of log(1 + ReLU(logit)) for retrieval; the bottleneck keeps the
        max.
    own_words: a text's weight on each of its own tokens is at least a learned minimum of that lexicon (not published).
    image_top_k, text_top_k: an item keeps its highest weights only, in training and as encoded; None as published.
    top_k_anneal: share of the run's steps in which the number kept shrinks from all lexicons to these, geometrically.
        Trap: with 0, an untrained image and text share no lexicon, and the contrast has no gradient.
    """

    text_bias: float = 0.0
    image_bias: float = 0.0
    identity_start: bool = False
    shared: bool = False
    tokens: Literal["all", "content"] = "all"
    pooling: Literal["max", "sum"] = "max"
    own_words: bool = False
    image_top_k: Count | None = None
    text_top_k: Count | None = None
    top_k_anneal: Share = 0.7


@dataclass(frozen=True)
class BottleneckConfig:
    """Phase 1: the lexicon bottleneck and the weights of its losses (published: 1 each; 0 drops a loss).

    source: input of the decoder at position 0: the softmax bag of words ("lexicon"), the bag of retrieval weights
        divided by their sum ("log1p"), or the [CLS] state ("cls"), which bypasses the lexicon.
    decoder_layers: depth of the weakened decoder. encoder_mask, decoder_mask: shares of masked words.
    """

    source: Literal["lexicon", "log1p", "cls"] = "lexicon"
    decoder_layers: Count = 2
    encoder_mask: Share = 0.3
    decoder_mask: Share = 0.5
    self_mlm: Weight = 1.0
    text_mlm: Weight = 1.0
    image_mlm: Weight = 1.0
    contrastive: Weight = 1.0


@dataclass(frozen=True)
class MomentumConfig:
    """Phase 2: momentum encoders and queues of their keys.

    decay: of the moving average. queue: keys per modality; with 0, the negatives are those of the batch.
    queue_top_k: number of highest lexicons stored per key (None: all, in a dense matrix).

    The other keys reproduce what this project corrects in the official code:
    updates: moves of the average per optimiser step (official code: one per micro-batch).
    start: the average starts from the weights after phase 1, or from "untrained" ones (official code).
    queue_start: the queue starts "empty", or full of "noise" (official code).
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    queue: Annotated[int, Field(ge=0)] = 11_520
    queue_top_k: Count | None = None
    updates: Count = 1
    start: Literal["trained", "untrained"] = "trained"
    queue_start: Literal["empty", "noise"] = "empty"

    def validate(self) -> None:
        """Raises InputError if values do not fit together."""
        if self.queue_top_k and self.queue_start == "noise":
            raise InputError(
                "model.lexlip.momentum: queue_start: noise is signed and stored dense; expected queue_top_k: null"
            )


@dataclass(frozen=True)
class FlopsConfig:
    """The regulariser that makes lexicon vectors sparse: FLOPS as published.

    weight: of images; that of texts is `text_factor` times it. acts_on: L2-normalised or raw lexicon weights.
    ramp: share of the run's steps in which the weights grow quadratically from 0, as in SPLADE; 0 as published.
    form: of the cost; formulas in `models.losses`.
    """

    weight: Weight = 0.002
    text_factor: Weight = 1.0
    acts_on: Literal["normalised", "raw"] = "normalised"
    ramp: Share = 0.0
    form: Literal["flops", "df_flops", "l1"] = "flops"


@dataclass(frozen=True)
class WordsConfig:
    """The caption-word target: an image's pooled logits learn the words of its captions. Ours, not LexLIP's.

    With o the tokens of the captions times their idf, divided by their sum, the loss is minus the sum over lexicons of
    o log softmax(logits) ("softmax"); or of o log sigmoid(logits), plus `absent` times the same of the other lexicons,
    each by its idf, with the sign of the logits changed ("sigmoid"). The best logit of a lexicon then is that of its
    probability given the image, plus -log(absent): it is positive above the probability absent / (1 + absent).
    V-SPLADE's caption loss (arXiv 2605.30917) is the sigmoid without other lexicons.

    weight: in both phases; 0 leaves it out. captions: those of the pair ("one") or all of the image's ("all").
    """

    weight: Weight = 0.0
    form: Literal["softmax", "sigmoid"] = "softmax"
    captions: Literal["one", "all"] = "all"
    absent: Weight = 0.05


@dataclass(frozen=True)
class LexLIPConfig:
    """LexLIP without its towers."""

    temperature: Positive = 0.05
    head: HeadConfig = field(default_factory=HeadConfig)
    bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)
    momentum: MomentumConfig = field(default_factory=MomentumConfig)
    flops: FlopsConfig = field(default_factory=FlopsConfig)
    words: WordsConfig = field(default_factory=WordsConfig)


@dataclass(frozen=True)
class ClipConfig:
    """CLIP without its towers.

    towers: transformers of open_clip with the sizes of `image` and `text`, or the encoders of LexLIP ("lexlip"), which
        can be pre-trained, attend to the whole text and represent it by [CLS]. open_clip's text tower is pre-norm and
        has its own initialisation: `text.embedding_std` does not act on it.
    embedding: width of the dense vectors; 512 as published.
    image_pool: image vector from [CLS] (as published) or from the mean of the patches.
    causal: causal text attention (as published); open_clip's towers only. temperature: initial value.
    prefixes: these shares of the dimensions, the first ones, learn to retrieve alone, beside all (Matryoshka;
        Kusupati et al., 2022).
    """

    towers: Literal["open_clip", "lexlip"] = "open_clip"
    embedding: Count = 512
    image_pool: Literal["cls", "mean"] = "cls"
    causal: bool = True
    temperature: Positive = 0.07
    prefixes: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """A retrieval model of one `kind` with two towers; the section of the other kind is ignored."""

    kind: Literal["lexlip", "clip"] = "lexlip"
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    lexlip: LexLIPConfig = field(default_factory=LexLIPConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)

    def validate(self) -> None:
        """Raises InputError if values do not fit together."""
        self.image.validate()
        self.text.validate()
        self.lexlip.momentum.validate()
        if self.kind == "clip" and self.clip.towers == "open_clip":
            keys = [(side, key) for side in ("image", "text") for key in ("architecture", "pretrained", "top")]
            found = [f"{side}.{key}" for side, key in keys if getattr(getattr(self, side), key)]
            if self.image.encoder != "vit":
                found.append(f"image.encoder: {self.image.encoder}")
            if found:
                raise InputError(f"model.clip.towers: open_clip does not support {found[0]}; expected towers: lexlip")
        if self.kind == "lexlip" and self.image.states_width != self.text.width:
            key = "image.top.width" if self.image.top else "image.width"
            raise InputError(
                f"model: {key} ({self.image.states_width}) and text.width ({self.text.width}) must be equal, "
                "because one decoder serves both"
            )
