"""A frozen encoder and what is trained on its token states ("locked" towers: LiT, Zhai et al., 2022).

The states of an item never change, so training can read them from a cache in place of pixels or tokens
(`ablations.cache.states`). A checkpoint holds the frozen weights too, so it encodes pixels and texts.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.config import TopConfig


class FrozenTower(nn.Module):
    """An encoder that is not trained, in eval mode always, and a trained `Top` on its token states.

    Run it with `image_tokens` or `text_tokens` of `models.towers.transformer`.

    grid: averages the square of patch tokens to grid x grid tokens; None: all.
    """

    def __init__(self, encoder: nn.Module, top: "Top", grid: int | None = None):
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.top, self.grid = top, grid

    def train(self, mode: bool = True) -> "FrozenTower":
        """Sets the training mode of the top only."""
        super().train(mode)
        self.encoder.eval()
        return self


class Top(nn.Module):
    """Token states (B, L, X) to (B, L, D): LayerNorm and a linear map if `width` is given, then transformer layers.

    Without `width`, D is X, and the top starts as the identity.
    """

    def __init__(self, config: TopConfig, states_width: int, width: int | None = None):
        super().__init__()
        self.projection = (
            nn.Sequential(nn.LayerNorm(states_width), nn.Linear(states_width, width)) if width else nn.Identity()
        )
        layers = (TopLayer(width or states_width, config.heads, config.mlp_ratio) for _ in range(config.layers))
        self.layers = nn.ModuleList(layers)

    def forward(self, states_BLX: torch.Tensor, mask_BL: torch.Tensor | None = None) -> torch.Tensor:
        """mask_BL: False at padding; None: no padding."""
        hidden_BLD = self.projection(states_BLX)
        for layer in self.layers:
            hidden_BLD = layer(hidden_BLD, mask_BL)
        return hidden_BLD


class TopLayer(nn.Module):
    """A pre-norm transformer layer that starts as the identity: its two last linear layers start at zero."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.heads, hidden = heads, int(width * mlp_ratio)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        for last in (self.attended, self.mlp[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, hidden_BLD: torch.Tensor, mask_BL: torch.Tensor | None) -> torch.Tensor:
        three_BLX = self.queries_keys_values(self.attention_norm(hidden_BLD)).unflatten(-1, (3, self.heads, -1))
        mask_B11L = None if mask_BL is None else mask_BL[:, None, None]
        found_BHLX = F.scaled_dot_product_attention(*three_BLX.permute(2, 0, 3, 1, 4), attn_mask=mask_B11L)
        hidden_BLD = hidden_BLD + self.attended(found_BHLX.transpose(1, 2).flatten(2))
        return hidden_BLD + self.mlp(self.mlp_norm(hidden_BLD))


def encoder_of(tower: nn.Module) -> nn.Module:
    """The encoder of a tower, frozen or not."""
    return tower.encoder if isinstance(tower, FrozenTower) else tower


def trained_part(tower: nn.Module) -> nn.Module:
    """The module of a tower that is trained: its top if it is frozen, else itself."""
    return tower.top if isinstance(tower, FrozenTower) else tower


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The frozen encoders in a model."""
    return [module.encoder for module in model.modules() if isinstance(module, FrozenTower)]
