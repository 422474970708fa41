"""Image and text encoders: classes of the package transformers, with the sizes of a configuration."""

from collections.abc import Callable
from typing import TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn import functional as F

from models.config import EFFICIENTNET, ImageConfig, TextConfig
from models.errors import InputError, one_line
from models.towers import torchvision_ops
from models.towers.efficientnet import CHANNELS, EfficientNetLite
from models.towers.frozen import FrozenTower, Top

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertModel",
    "BertPredictionHeadTransform",
    "PreTrainedTokenizerFast",
    "transformers_logging",
]
"""Other modules import the classes of transformers from here, because torchvision must be made importable first."""

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

Config = TypeVar("Config", bound=PreTrainedConfig)

MEAN_AND_DEVIATION = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Statistics -> mean and deviation of the red, green and blue channels, for pixels in [0, 1]."""


class ConvolutionalStem(nn.Sequential):
    """Overlapping convolutions in place of a patch projection: (B, 3, H, W) to (B, D, H/patch, W/patch).

    A 4x4 convolution of stride 4, then 3x3 convolutions of stride 2 (Xiao et al., 2021, "Early convolutions help
    transformers see better").
    """

    def __init__(self, widths: tuple[int, ...], out_width: int):
        steps: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=4)]
        for narrow, wide in zip(widths, [*widths[1:], out_width], strict=True):
            steps += [nn.GELU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
        super().__init__(*steps)

    @property
    def weight(self) -> torch.Tensor:
        """Weight of the last convolution; transformers reads the dtype of a patch projection from it."""
        return self[-1].weight


def as_images(images, pixels: int, device: torch.device) -> torch.Tensor:
    """Checks an array or tensor, uint8 (B, pixels, pixels, 3), and moves it to `device`. Raises InputError."""
    images_BHWC = torch.as_tensor(images)
    if images_BHWC.dtype != torch.uint8 or images_BHWC.shape[1:] != (pixels, pixels, 3):
        raise InputError(
            f"images: expected uint8 (B, {pixels}, {pixels}, 3), got {images_BHWC.dtype} {tuple(images_BHWC.shape)}"
        )
    return images_BHWC.to(device)


def pixel_values(images_BHWC: torch.Tensor, statistics: str = "half") -> torch.Tensor:
    """Normalises uint8 (B, H, W, 3) to float32 (B, 3, H, W) by `statistics`; "half" gives [-1, 1]."""
    values_BCHW = images_BHWC.permute(0, 3, 1, 2).float()
    if statistics == "half":
        return values_BCHW.div_(127.5).sub_(1.0)
    mean_C11, deviation_C11 = (
        torch.tensor(three, device=values_BCHW.device)[:, None, None] for three in MEAN_AND_DEVIATION[statistics]
    )
    return values_BCHW.div_(255.0).sub_(mean_C11).div_(deviation_C11)


def image_tower(config: ImageConfig) -> nn.Module:
    """An image encoder without pooler, with random weights; run it with `image_tokens`. Raises InputError."""
    if not config.top:
        return _image_encoder(config)
    states_width = CHANNELS if config.encoder in EFFICIENTNET else config.width
    return FrozenTower(_image_encoder(config), Top(config.top, states_width, config.states_width), config.top.grid)


def _image_encoder(config: ImageConfig) -> nn.Module:
    if config.encoder in EFFICIENTNET:
        return EfficientNetLite(config.encoder, None if config.top else config.width)
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
            tower = ViTModel(_config("model.image", ViTConfig, **sizes, **hidden), add_pooling_layer=False)
        case "beit":
            beit = _config("model.image", BeitConfig, **sizes, **hidden, drop_path_rate=0.0)
            tower = BeitModel(beit, add_pooling_layer=False)
        case "dinov2":
            hidden = {"mlp_ratio": int(config.mlp_ratio), "use_mask_token": False}
            tower = Dinov2Model(_config("model.image", Dinov2Config, **sizes, **hidden))
    if config.stem == "convolutional":
        tower.embeddings.patch_embeddings.projection = ConvolutionalStem(config.stem_widths, config.width)
    return tower


def image_tokens(tower: nn.Module, values_BCHW: torch.Tensor) -> torch.Tensor:
    """Token states (B, 1 + patches, D) of normalised images, [CLS] first.

    The position table is interpolated for images of another size (DINOv2 does so by itself), and used as it is
    otherwise.
    """
    if isinstance(tower, FrozenTower):
        return tower.top(frozen_image_states(tower, values_BCHW))
    if isinstance(tower, EfficientNetLite):
        return tower(values_BCHW)
    if isinstance(tower, Dinov2Model) or values_BCHW.shape[-1] == tower.config.image_size:
        return tower(values_BCHW).last_hidden_state
    return tower(values_BCHW, interpolate_pos_encoding=True).last_hidden_state


def pooled_to_grid(tokens_BLX: torch.Tensor, grid: int | None) -> torch.Tensor:
    """Averages the square of patch tokens, after a first token that stays, to grid x grid tokens; None: no change.

    (B, 1 + S * S, X) to (B, 1 + grid * grid, X).
    """
    if grid is None:
        return tokens_BLX
    side = round((tokens_BLX.shape[1] - 1) ** 0.5)
    square_BXSS = tokens_BLX[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    return torch.cat([tokens_BLX[:, :1], F.adaptive_avg_pool2d(square_BXSS, grid).flatten(2).transpose(1, 2)], dim=1)


def states_of_images(
    tower: nn.Module, images_BHWC: torch.Tensor | None, statistics: str, states_BLX: torch.Tensor | None = None
) -> torch.Tensor:
    """Token states (B, L, D) of uint8 images (B, H, W, 3).

    states_BLX: those of a frozen encoder (`frozen_image_states`), of any float type, if they are known; the images then
        are not needed.
    """
    if states_BLX is not None:
        return tower.top(states_BLX.float())
    return image_tokens(tower, pixel_values(images_BHWC, statistics))


def bert_config(config: TextConfig, layers: int | None = None) -> BertConfig:
    """The transformers configuration of the text encoder, or of its decoder with `layers` layers. Raises InputError."""
    return _config(
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


def text_tower(config: TextConfig) -> nn.Module:
    """BERT without pooler, with random weights; run it with `text_tokens`. Raises InputError."""
    bert = BertModel(bert_config(config), add_pooling_layer=False)
    nn.init.normal_(bert.embeddings.word_embeddings.weight, std=config.embedding_std)
    return FrozenTower(bert, Top(config.top, config.width)) if config.top else bert


def text_tokens(
    tower: nn.Module, tokens_BL: torch.Tensor, mask_BL: torch.Tensor, states_BLX: torch.Tensor | None = None
) -> torch.Tensor:
    """Token states (B, L, D) of padded token ids; `mask_BL` is False at padding.

    states_BLX: those of a frozen encoder (`frozen_text_states`), of any float type, if they are known.
    """
    if not isinstance(tower, FrozenTower):
        return tower(input_ids=tokens_BL, attention_mask=mask_BL).last_hidden_state
    if states_BLX is None:
        states_BLX = frozen_text_states(tower, tokens_BL, mask_BL)
    return tower.top(states_BLX.float(), mask_BL)


@torch.no_grad()
def frozen_image_states(tower: FrozenTower, values_BCHW: torch.Tensor) -> torch.Tensor:
    """Token states (B, L, X) of the frozen encoder, for its top."""
    return pooled_to_grid(image_tokens(tower.encoder, values_BCHW), tower.grid)


@torch.no_grad()
def frozen_text_states(tower: FrozenTower, tokens_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    """Token states (B, L, X) of the frozen encoder, for its top."""
    return text_tokens(tower.encoder, tokens_BL, mask_BL)


def _config(where: str, kind: Callable[..., Config], **values) -> Config:
    """A transformers configuration, which checks its types itself. Raises InputError."""
    try:
        return kind(**values)
    except StrictDataclassError as error:
        raise InputError(f"{where}.architecture: {one_line(error)}") from None
