"""Image and text transformers from transformers' own classes, at the sizes that a configuration asks for."""

from collections.abc import Callable
from typing import TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from models.config import ImageConfig, TextConfig
from models.errors import InputError
from models.towers import torchvision_ops
from models.towers.efficientnet import EfficientNetLite0

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertModel",
    "BertPredictionHeadTransform",
    "PreTrainedTokenizerFast",
    "transformers_logging",
]
"""transformers is imported in this file alone, because its torchvision must be made importable first."""

torchvision_ops.make_importable()
from transformers import (  # noqa: E402
    BeitConfig,
    BeitModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTModel,
)
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

Made = TypeVar("Made", bound=PreTrainedConfig)

MEAN_AND_DEVIATION = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Statistics -> mean and deviation of red, green, blue, of pixels in [0, 1]."""


class ConvolutionalStem(nn.Sequential):
    """Overlapping convolutions in place of one big patch projection: (B, 3, H, W) to (B, D, H/patch, W/patch).

    A 4x4 convolution of stride 4, then one 3x3 of stride 2 for each further halving (Xiao et al., 2021: early convolutions
    help small transformers to see).
    """

    def __init__(self, widths: tuple[int, ...], out_width: int):
        steps: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=4)]
        for narrow, wide in zip(widths, [*widths[1:], out_width], strict=True):
            steps += [nn.GELU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
        super().__init__(*steps)

    @property
    def weight(self) -> torch.Tensor:
        """Of the last convolution: transformers asks a patch projection for its dtype."""
        return self[-1].weight


def as_images(images, pixels: int, device: torch.device) -> torch.Tensor:
    """Arrays or tensors as uint8 (B, pixels, pixels, 3) on `device`. Raises InputError for another type or shape."""
    images_BHWC = torch.as_tensor(images)
    if images_BHWC.dtype != torch.uint8 or images_BHWC.shape[1:] != (pixels, pixels, 3):
        raise InputError(
            f"images: expected uint8 (B, {pixels}, {pixels}, 3), got {images_BHWC.dtype} {tuple(images_BHWC.shape)}"
        )
    return images_BHWC.to(device)


def pixel_values(images_BHWC: torch.Tensor, statistics: str = "half") -> torch.Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W), normalised by the mean and deviation of `statistics`; "half" gives [-1, 1]."""
    values_BCHW = images_BHWC.permute(0, 3, 1, 2).float()
    if statistics == "half":
        return values_BCHW.div_(127.5).sub_(1.0)
    mean_C11, deviation_C11 = (
        torch.tensor(three, device=values_BCHW.device)[:, None, None] for three in MEAN_AND_DEVIATION[statistics]
    )
    return values_BCHW.div_(255.0).sub_(mean_C11).div_(deviation_C11)


def image_tower(config: ImageConfig) -> nn.Module:
    """An image encoder without pooler, with random weights; `image_tokens` makes tokens of pictures with it. Raises InputError."""
    if config.encoder == "efficientnet_lite0":
        return EfficientNetLite0(config.width)
    sizes = {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "image_size": config.table,
        "patch_size": config.patch,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        **config.architecture,
    }
    hidden = {"intermediate_size": int(config.width * config.mlp_ratio)}
    match config.encoder:
        case "vit":
            tower = ViTModel(_made("model.image", ViTConfig, **sizes, **hidden), add_pooling_layer=False)
        case "beit":
            tower = BeitModel(
                _made("model.image", BeitConfig, **sizes, **hidden, drop_path_rate=0.0), add_pooling_layer=False
            )
        case "dinov2":
            tower = Dinov2Model(
                _made("model.image", Dinov2Config, **sizes, mlp_ratio=int(config.mlp_ratio), use_mask_token=False)
            )
    if config.stem == "convolutional":
        tower.embeddings.patch_embeddings.projection = ConvolutionalStem(config.stem_widths, config.width)
    return tower


def image_tokens(tower: nn.Module, values_BCHW: torch.Tensor) -> torch.Tensor:
    """Token states (B, 1 + patches, D) of normalised pictures, [CLS] first.

    At another size than the position table's, ViT and BEiT interpolate it when asked to, DINOv2 by itself; at the table's own size
    nothing is interpolated.
    """
    if isinstance(tower, EfficientNetLite0):
        return tower(values_BCHW)
    if isinstance(tower, Dinov2Model) or values_BCHW.shape[-1] == tower.config.image_size:
        return tower(values_BCHW).last_hidden_state
    return tower(values_BCHW, interpolate_pos_encoding=True).last_hidden_state


def bert_config(config: TextConfig, layers: int | None = None) -> BertConfig:
    """transformers' configuration of the text tower, or of a decoder of `layers` layers beside it."""
    return _made(
        "model.text",
        BertConfig,
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers if layers is None else layers,
        num_attention_heads=config.heads,
        intermediate_size=int(config.width * config.mlp_ratio),
        max_position_embeddings=config.max_tokens,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        **config.architecture,
    )


def text_tower(config: TextConfig) -> BertModel:
    """BERT without pooler; `last_hidden_state` is (B, L, D)."""
    bert = BertModel(bert_config(config), add_pooling_layer=False)
    nn.init.normal_(bert.embeddings.word_embeddings.weight, std=config.embedding_std)
    return bert


def _made(where: str, kind: Callable[..., Made], **values) -> Made:
    """A configuration of transformers, which checks the types itself. Raises InputError."""
    try:
        return kind(**values)
    except StrictDataclassError as error:
        raise InputError(f"{where}.architecture: {' '.join(str(error).split())}") from None
