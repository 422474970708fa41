"""EfficientNet-Lite0 as an image encoder with its last feature map as tokens (Tan and Le, 2019; Lite: no
squeeze-and-excite).

The package efficientnet-lite-pytorch has the architecture; its ImageNet weights come in another package, which
`models.pretrained.sources` finds. Both work offline.
"""

import torch
from torch import nn

from models.errors import require

NAME = "efficientnet-lite0"
CHANNELS = 1280
"""Of the last feature map."""


class EfficientNetLite0(nn.Module):
    """Maps images, normalised to [-1, 1], (B, 3, H, W) to tokens (B, 1 + H/32 * W/32, D) by a linear layer on the
    feature map.

    The first token is the mean of the feature map, in place of [CLS]. Raises AbsentError without the package.

    Trap: BatchNorm always uses its stored statistics, in training too. With the statistics of the batch, the vector of
    an image would depend on the other images, and on the number of processes.
    """

    def __init__(self, width: int):
        super().__init__()
        package = require("efficientnet_lite_pytorch", package="efficientnet-lite-pytorch")
        # image_size None: padding follows the size of the image. drop_connect_rate None: no stochastic depth.
        self.network = package.EfficientNet.from_name(NAME, image_size=None, drop_connect_rate=None)
        self.network._fc = nn.Identity()  # in place of the ImageNet classifier
        self.projection = nn.Linear(CHANNELS, width)

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        """Sets the training mode of all modules except BatchNorm."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, values_BCHW: torch.Tensor) -> torch.Tensor:
        """Token states (B, L, D)."""
        places_BLC = self.network.extract_features(values_BCHW).flatten(2).transpose(1, 2)
        return self.projection(torch.cat([places_BLC.mean(dim=1, keepdim=True), places_BLC], dim=1))
