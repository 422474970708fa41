"""Image and text transformers from transformers' own classes, at the sizes that a configuration asks for."""

import torch
from torch import nn

from models import torchvision_ops
from models.config import ImageConfig, TextConfig
from models.errors import InputError

__all__ = ["BertConfig", "BertModel", "BertPredictionHeadTransform"]
"""transformers is imported in this file alone, because its torchvision must be made importable first."""

torchvision_ops.make_importable()
from transformers import BertConfig, BertModel, ViTConfig, ViTModel  # noqa: E402
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform  # noqa: E402


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
        raise InputError(f"images: expected uint8 (B, {pixels}, {pixels}, 3), got {images_BHWC.dtype} {tuple(images_BHWC.shape)}")
    return images_BHWC.to(device)


def pixel_values(images_BHWC: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) with mean and standard deviation 0.5, that is in [-1, 1]."""
    return images_BHWC.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def image_tower(config: ImageConfig) -> ViTModel:
    """A vision transformer without pooler; `last_hidden_state` is [CLS] and the patches, (B, 1 + patches, D)."""
    vit = ViTModel(
        ViTConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=int(config.width * config.mlp_ratio),
            image_size=config.pixels,
            patch_size=config.patch,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )
    if config.stem == "convolutional":
        vit.embeddings.patch_embeddings.projection = ConvolutionalStem(config.stem_widths, config.width)
    return vit


def bert_config(config: TextConfig, layers: int | None = None) -> BertConfig:
    """transformers' configuration of the text tower, or of a decoder of `layers` layers beside it."""
    return BertConfig(
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
    )


def text_tower(config: TextConfig) -> BertModel:
    """BERT without pooler; `last_hidden_state` is (B, L, D)."""
    bert = BertModel(bert_config(config), add_pooling_layer=False)
    nn.init.normal_(bert.embeddings.word_embeddings.weight, std=config.embedding_std)
    return bert
