"""Configuration of the models. Both share `image` and `text`, so that the towers compared are the same by construction."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from models.errors import InputError, nearest

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Way = Literal["auto", "tiled", "triton"]
"""How a lexicon head is computed (`models.lexicon.max_linear`): a tile at a time by torch, or by Triton kernels; "auto": by the kernels for tensors
on a GPU where triton is installed."""

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
    "bert": _TRANSFORMER,
}
"""Encoder -> keys of transformers' own configuration that `architecture` may set. Sizes are set by the sections' other keys; dropout and
stochastic depth stay off, since all that is random in a step must follow from its seed."""

EFFICIENTNET_STRIDE = 32
"""Pixels to a token of EfficientNet's last feature map."""


@dataclass(frozen=True)
class ImageConfig:
    """The image encoder. `stem` turns pixels into tokens: one convolution per patch, or a few small ones (better when small).

    `encoder`: transformers' ViT, BEiT or DINOv2, or the convolutional EfficientNet-Lite0, of which `layers`, `heads`, `mlp_ratio` and
    `stem` are not read. `table_pixels`: picture size of the position table (None: `pixels`); pictures of another size interpolate it.
    `statistics`: what pixels are normalised by: mean and deviation 0.5 ("half"), or those of ImageNet's channels, as DINOv2 expects.
    `architecture`: further keys of transformers' configuration, see `ARCHITECTURE`. `pretrained`: see `models.pretrained.warm_start`.
    """

    encoder: Literal["vit", "beit", "dinov2", "efficientnet_lite0"] = "vit"
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

    @property
    def table(self) -> int:
        """The picture size whose patches have a position of their own."""
        return self.table_pixels or self.pixels

    def validate(self) -> None:
        _validate_architecture("model.image", self.encoder, self.architecture)
        for name, pixels in (("pixels", self.pixels), ("table_pixels", self.table)):
            if pixels % self.patch:
                raise InputError(f"model.image: patch ({self.patch}) must divide {name} ({pixels})")
        if self.encoder == "efficientnet_lite0":
            if self.patch != EFFICIENTNET_STRIDE or self.table_pixels:
                raise InputError(
                    f"model.image: efficientnet_lite0 has a token per {EFFICIENTNET_STRIDE} pixels and no position table; "
                    f"expected patch: {EFFICIENTNET_STRIDE} (was {self.patch}) and table_pixels: null (was {self.table_pixels})"
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
                f"model.image.architecture: this beit would not know where a patch is; expected one of {', '.join(positions)}"
            )
        if self.encoder == "dinov2" and self.mlp_ratio != int(self.mlp_ratio):
            raise InputError(f"model.image.mlp_ratio: dinov2 takes whole numbers only, not {self.mlp_ratio:g}")
        if self.pretrained and self.stem != "patch":
            raise InputError(
                f"model.image.stem: pretrained weights have one convolution per patch; expected patch, not {self.stem}"
            )
        stride = 2 ** (len(self.stem_widths) + 2)
        if self.stem == "convolutional" and self.patch != stride:
            raise InputError(
                f"model.image: a convolutional stem of {len(self.stem_widths)} widths makes patches of {stride} pixels, not {self.patch}"
            )


@dataclass(frozen=True)
class TextConfig:
    """The text transformer, BERT's. `max_tokens` counts [CLS] and [SEP]; 40 is the published limit. `vocabulary` is the lexicon's size.

    `architecture`: further keys of transformers' configuration, see `ARCHITECTURE`. `pretrained`: see `models.pretrained.warm_start`; it brings its
    own vocabulary, which is then the lexicon.
    """

    layers: Count = 2
    width: Count = 128
    heads: Count = 4
    mlp_ratio: Positive = 4.0
    max_tokens: Annotated[int, Field(ge=3, le=254)] = 40
    vocabulary: Annotated[int, Field(ge=64)] = 1024
    embedding_std: Positive = 0.02
    architecture: dict = field(default_factory=dict, hash=False)
    pretrained: str | None = None

    def validate(self) -> None:
        _validate_architecture("model.text", "bert", self.architecture)
        _validate_heads("model.text", self.width, self.heads)


@dataclass(frozen=True)
class HeadConfig:
    """The lexicon heads. A negative bias starts a side sparse; `identity_start` starts a text as its own bag of words.

    `shared`: one head, the text's, for both sides (as published the image has a copy of its own). `tokens`: "all" as published, or
    "content", which leaves [CLS] and [SEP] out of the pooling. `pooling`: the "max" over tokens as published, or the "sum" of their
    log(1 + ReLU(logit)) as retrieval weights; the bottleneck keeps the max.
    """

    text_bias: float = 0.0
    image_bias: float = 0.0
    identity_start: bool = False
    shared: bool = False
    tokens: Literal["all", "content"] = "all"
    pooling: Literal["max", "sum"] = "max"


@dataclass(frozen=True)
class BottleneckConfig:
    """Phase 1: what the decoder is given, how weak it is, and the weight of each loss (the published sum has unit weights; 0 drops one).

    `source` is what stands at the decoder's position 0: the continuous bag of words ("lexicon"), the same of the retrieval weights,
    divided by their sum ("log1p"), or the encoder's [CLS] state ("cls"), which does not force the encoder through the lexicon.
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
    """Phase 2: momentum encoders and queues. `queue` keys per modality; 0 keeps the keys of the batch only.

    `queue_top_k`: lexicons kept of a queued key, the highest ones (None: all, in a dense matrix). The other three undo corrections of the
    official code: `updates` of the average per optimiser step (there: one per micro-batch), `start` of the average from the weights after
    phase 1 or from "untrained" ones (there: copied before phase 1 is loaded), and a queue that starts "empty" or full of "noise" (there).
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    queue: Annotated[int, Field(ge=0)] = 11_520
    queue_top_k: Count | None = None
    updates: Count = 1
    start: Literal["trained", "untrained"] = "trained"
    queue_start: Literal["empty", "noise"] = "empty"

    def validate(self) -> None:
        if self.queue_top_k and self.queue_start == "noise":
            raise InputError(
                "model.lexlip.momentum: signed noise has no highest lexicons; queue_start: noise needs queue_top_k: null"
            )


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
    ([CLS] as published, or their mean), causal text attention (as published) or full, the starting temperature.

    `towers`: open_clip's own transformers at the sizes of `image` and `text`, or the very encoders that LexLIP has ("lexlip"), of which
    alone there are pre-trained ones; their text attention is full and [CLS] stands for a text.
    """

    towers: Literal["open_clip", "lexlip"] = "open_clip"
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
        self.lexlip.momentum.validate()
        if self.kind == "clip" and self.clip.towers == "open_clip":
            sections = {"image": self.image, "text": self.text}
            found = [
                f"{side}.{key}"
                for side, section in sections.items()
                for key in ("architecture", "pretrained")
                if getattr(section, key)
            ]
            if self.image.encoder != "vit" or found:
                raise InputError(
                    f"model.clip.towers: open_clip's own towers cannot have {(found or ['image.encoder: ' + self.image.encoder])[0]}; "
                    "expected towers: lexlip"
                )
        if self.kind == "lexlip" and self.image.width != self.text.width:
            raise InputError(
                f"model: image.width ({self.image.width}) and text.width ({self.text.width}) must be equal: one decoder serves both"
            )


def _validate_heads(where: str, width: int, heads: int) -> None:
    if width % heads:
        raise InputError(f"{where}: heads ({heads}) must divide width ({width})")


def _validate_architecture(where: str, encoder: str, architecture: dict) -> None:
    known = ARCHITECTURE[encoder]
    if unknown := next((str(key) for key in architecture if key not in known), None):
        raise InputError(f"{where}.architecture: {encoder} has no key {unknown} here{nearest(unknown, known)}")
