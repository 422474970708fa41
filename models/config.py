"""Configuration of the models. Both share `image` and `text`, so that the towers compared are the same by construction."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from models.errors import InputError

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ImageConfig:
    """The image transformer. `stem` turns pixels into tokens: one convolution per patch, or a few small ones (better when small)."""

    layers: Count = 3
    width: Count = 128
    heads: Count = 4
    mlp_ratio: Positive = 4.0
    pixels: Count = 64
    patch: Count = 16
    stem: Literal["patch", "convolutional"] = "convolutional"
    stem_widths: tuple[Count, ...] = (48, 96)

    def validate(self) -> None:
        _validate_heads("model.image", self.width, self.heads)
        if self.pixels % self.patch:
            raise InputError(f"model.image: patch ({self.patch}) must divide pixels ({self.pixels})")
        stride = 2 ** (len(self.stem_widths) + 2)
        if self.stem == "convolutional" and self.patch != stride:
            raise InputError(
                f"model.image: a convolutional stem of {len(self.stem_widths)} widths makes patches of {stride} pixels, not {self.patch}"
            )


@dataclass(frozen=True)
class TextConfig:
    """The text transformer. `max_tokens` counts [CLS] and [SEP]; 40 is the published limit. `vocabulary` is the lexicon's size."""

    layers: Count = 2
    width: Count = 128
    heads: Count = 4
    mlp_ratio: Positive = 4.0
    max_tokens: Annotated[int, Field(ge=3, le=254)] = 40
    vocabulary: Annotated[int, Field(ge=64)] = 1024
    embedding_std: Positive = 0.02

    def validate(self) -> None:
        _validate_heads("model.text", self.width, self.heads)


@dataclass(frozen=True)
class HeadConfig:
    """The lexicon heads. A negative bias starts a side sparse; `identity_start` starts a text as its own bag of words."""

    text_bias: float = 0.0
    image_bias: float = 0.0
    identity_start: bool = False


@dataclass(frozen=True)
class BottleneckConfig:
    """Phase 1: what the decoder is given, how weak it is, and the weight of each loss (the published sum has unit weights).

    `source` is what stands at the decoder's position 0: the continuous bag of words ("lexicon"), or the encoder's [CLS]
    state ("cls"), which does not force the encoder through the lexicon.
    """

    source: Literal["lexicon", "cls"] = "lexicon"
    decoder_layers: Count = 2
    encoder_mask: Share = 0.3
    decoder_mask: Share = 0.5
    self_mlm: Weight = 1.0
    text_mlm: Weight = 1.0
    image_mlm: Weight = 1.0
    contrastive: Weight = 1.0


@dataclass(frozen=True)
class MomentumConfig:
    """Phase 2: momentum encoders and queues. `queue` keys per modality; 0 keeps the keys of the batch only."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    queue: Annotated[int, Field(ge=0)] = 11_520


@dataclass(frozen=True)
class FlopsConfig:
    """The sparsity regulariser: its weight, and whether it acts on L2-normalised or raw lexicon weights."""

    weight: Weight = 0.002
    acts_on: Literal["normalised", "raw"] = "normalised"


@dataclass(frozen=True)
class LexLIPConfig:
    """What LexLIP has beside the towers."""

    temperature: Positive = 0.05
    head: HeadConfig = field(default_factory=HeadConfig)
    bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)
    momentum: MomentumConfig = field(default_factory=MomentumConfig)
    flops: FlopsConfig = field(default_factory=FlopsConfig)


@dataclass(frozen=True)
class ClipConfig:
    """What CLIP has beside the towers: width of the dense vector (512 as published), how image tokens become one vector
    ([CLS] as published, or their mean), causal text attention (as published) or full, the starting temperature."""

    embedding: Count = 512
    image_pool: Literal["cls", "mean"] = "cls"
    causal: bool = True
    temperature: Positive = 0.07


@dataclass(frozen=True)
class ModelConfig:
    """A retrieval model of one `kind` over two towers; the section of the other kind is not read."""

    kind: Literal["lexlip", "clip"] = "lexlip"
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    lexlip: LexLIPConfig = field(default_factory=LexLIPConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)

    def validate(self) -> None:
        """Raise InputError where values do not fit each other."""
        self.image.validate()
        self.text.validate()
        if self.kind == "lexlip" and self.image.width != self.text.width:
            raise InputError(
                f"model: image.width ({self.image.width}) and text.width ({self.text.width}) must be equal: one decoder serves both"
            )


def _validate_heads(where: str, width: int, heads: int) -> None:
    if width % heads:
        raise InputError(f"{where}: heads ({heads}) must divide width ({width})")
