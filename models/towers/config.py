"""Configuration of the image and text encoders. Other modules import it from `models.config`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from models.errors import InputError, nearest

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]

_TRANSFORMER = ("hidden_act", "initializer_range", "layer_norm_eps")
ARCHITECTURE = {
    "vit": (*_TRANSFORMER, "qkv_bias"),
    "beit": (
        *_TRANSFORMER,
        "layer_scale_init_value",
        "use_absolute_position_embeddings",
        "use_mean_pooling",
        "use_relative_position_bias",
        "use_shared_relative_position_bias",
    ),
    "dinov2": (*_TRANSFORMER, "layerscale_value", "qkv_bias", "use_swiglu_ffn"),
    "efficientnet_lite0": (),
    "efficientnet_lite2": (),
    "bert": _TRANSFORMER,
}
"""Encoder -> keys of its transformers configuration that `architecture` may set.

The other keys of the sections set the sizes. Dropout and stochastic depth stay off: a training step is random through
its seed only."""

EFFICIENTNET = ("efficientnet_lite0", "efficientnet_lite2")
EFFICIENTNET_STRIDE = 32
"""Pixels per token of EfficientNet's last feature map."""


@dataclass(frozen=True)
class TopConfig:
    """What is trained on a frozen text encoder: `layers` transformer layers, which start as the identity."""

    layers: Annotated[int, Field(ge=0)] = 1
    heads: Count = 4
    mlp_ratio: Positive = 4.0


@dataclass(frozen=True)
class ImageTopConfig(TopConfig):
    """What is trained on a frozen image encoder: a linear map to the model's width, then transformer layers.

    width: of the model; None: that of the encoder. grid: averages the square of patch tokens to grid x grid tokens, and
        for EfficientNet too; None keeps all.
    """

    width: Count | None = None
    grid: Count | None = None


@dataclass(frozen=True)
class ImageConfig:
    """The image encoder.

    encoder: ViT, BEiT or DINOv2 of transformers, or the convolutional EfficientNet-Lite0 or Lite2, which ignores
        `layers`, `heads`, `mlp_ratio` and `stem`.
    stem: maps pixels to tokens, by one convolution per patch ("patch") or several small ones (better for small
        encoders).
    table_pixels: image size of the position table (None: `pixels`); it is interpolated for images of another size.
    statistics: normalises pixels by mean and deviation 0.5 ("half") or by those of ImageNet's channels, as DINOv2
        expects.
    architecture: further keys of the transformers configuration, see `ARCHITECTURE`.
    pretrained: see `models.pretrained.sources`.
    top: freezes the encoder and trains layers on top of it ("locked", LiT; Zhai et al., 2022); None trains the encoder.
    """

    encoder: Literal["vit", "beit", "dinov2", "efficientnet_lite0", "efficientnet_lite2"] = "vit"
    layers: Count = 3
    width: Count = 128
    heads: Count = 4
    mlp_ratio: Positive = 4.0
    pixels: Count = 64
    patch: Count = 16
    stem: Literal["patch", "convolutional"] = "convolutional"
    stem_widths: tuple[Count, ...] = (48, 96)
    table_pixels: Count | None = None
    statistics: Literal["half", "imagenet"] = "half"
    architecture: dict = field(default_factory=dict, hash=False)
    pretrained: str | None = None
    top: ImageTopConfig | None = None

    @property
    def states_width(self) -> int:
        """Width of the token states, and of the model: that of the top if there is one."""
        return self.top.width or self.width if self.top else self.width

    @property
    def table(self) -> int:
        """Image size of the position table, in pixels."""
        return self.table_pixels or self.pixels

    def validate(self) -> None:
        """Raises InputError if values do not fit together."""
        _validate_architecture("model.image", self.encoder, self.architecture)
        for name, pixels in (("pixels", self.pixels), ("table_pixels", self.table)):
            if pixels % self.patch:
                raise InputError(f"model.image: patch ({self.patch}) must divide {name} ({pixels})")
        if self.top:
            _validate_heads("model.image.top", self.states_width, self.top.heads)
        if self.encoder in EFFICIENTNET:
            if self.patch != EFFICIENTNET_STRIDE or self.table_pixels:
                raise InputError(
                    f"model.image: {self.encoder} expects patch: {EFFICIENTNET_STRIDE} (got {self.patch}) and "
                    f"table_pixels: null (got {self.table_pixels})"
                )
            return
        _validate_heads("model.image", self.width, self.heads)
        positions = (
            "use_absolute_position_embeddings",
            "use_relative_position_bias",
            "use_shared_relative_position_bias",
        )
        if self.encoder == "beit" and not any(self.architecture.get(key) for key in positions):
            raise InputError(
                f"model.image.architecture: beit has no position embeddings; expected one of {', '.join(positions)}"
            )
        if self.encoder == "dinov2" and self.mlp_ratio != int(self.mlp_ratio):
            raise InputError(f"model.image.mlp_ratio: dinov2 expects a whole number, not {self.mlp_ratio:g}")
        if self.pretrained and self.stem != "patch":
            raise InputError(
                f"model.image.stem: pretrained weights have one convolution per patch; expected patch, not {self.stem}"
            )
        stride = 2 ** (len(self.stem_widths) + 2)
        if self.stem == "convolutional" and self.patch != stride:
            raise InputError(
                f"model.image.patch: a convolutional stem of {len(self.stem_widths)} widths "
                f"makes patches of {stride} pixels, not {self.patch}"
            )


@dataclass(frozen=True)
class TextConfig:
    """The text encoder, a BERT.

    max_tokens: length limit including [CLS] and [SEP]; 40 as published.
    vocabulary: number of tokens; those of a learned tokenizer may be fewer.
    lexicon_min_count: lexicons are the tokens that occur at least this often in the training captions, without special
        tokens; 0: all tokens.
    architecture: further keys of the transformers configuration, see `ARCHITECTURE`.
    pretrained: see `models.pretrained.sources`; its vocabulary then is the lexicon.
    top: freezes the encoder with its word embeddings and trains layers on top of it; None trains the encoder. The
        lexicon head then is a copy of the word embeddings, not tied to them.
    """

    layers: Count = 2
    width: Count = 128
    heads: Count = 4
    mlp_ratio: Positive = 4.0
    max_tokens: Annotated[int, Field(ge=3, le=254)] = 40
    vocabulary: Annotated[int, Field(ge=64)] = 1024
    lexicon_min_count: Annotated[int, Field(ge=0)] = 0
    embedding_std: Positive = 0.02
    architecture: dict = field(default_factory=dict, hash=False)
    pretrained: str | None = None
    top: TopConfig | None = None

    def validate(self) -> None:
        """Raises InputError if values do not fit together."""
        _validate_architecture("model.text", "bert", self.architecture)
        _validate_heads("model.text", self.width, self.heads)
        if self.top:
            _validate_heads("model.text.top", self.width, self.top.heads)


def _validate_heads(where: str, width: int, heads: int) -> None:
    if width % heads:
        raise InputError(f"{where}: heads ({heads}) must divide width ({width})")


def _validate_architecture(where: str, encoder: str, architecture: dict) -> None:
    known = ARCHITECTURE[encoder]
    if unknown := next((str(key) for key in architecture if key not in known), None):
        raise InputError(f"{where}.architecture: {encoder} has no key {unknown} here{nearest(unknown, known)}")
