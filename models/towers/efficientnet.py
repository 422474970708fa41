"""EfficientNet-Lite0 and Lite2 as image encoders with the last feature map as tokens (Tan and Le, 2019; Lite: no
squeeze-and-excite).

The package efficientnet-lite-pytorch has the architecture; the ImageNet weights come in other packages, which
`models.pretrained.sources` finds. Both work offline.
"""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.errors import require

CHANNELS = 1280
"""Of the last feature map."""


class EfficientNetLite(nn.Module):
    """Maps images, normalised to [-1, 1], (B, 3, H, W) to tokens (B, 1 + H/32 * W/32, D) by a linear layer on the
    feature map.

    name: as the configuration has it. width: D; None: no linear layer, and D is `CHANNELS`.

    The first token is the mean of the feature map, in place of [CLS]. Raises AbsentError without the package.

    Trap: BatchNorm always uses its stored statistics, in training too. With the statistics of the batch, the vector of
    an image would depend on the other images, and on the number of processes.
    """

    def __init__(self, name: str, width: int | None):
        super().__init__()
        package = require("efficientnet_lite_pytorch", package="efficientnet-lite-pytorch")
        # image_size None: padding follows the size of the image. drop_connect_rate None: no stochastic depth.
        self.network = package.EfficientNet.from_name(name.replace("_", "-"), image_size=None, drop_connect_rate=None)
        self.network._fc = nn.Identity()  # in place of the ImageNet classifier
        self.projection = nn.Linear(CHANNELS, width) if width else nn.Identity()

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """Sets the training mode of all modules except BatchNorm."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def fused(self) -> "EfficientNetLite":
        """A copy for inference with BatchNorm folded into the convolutions: half the time, equal up to rounding."""
        fused = copy.deepcopy(self).eval()
        pairs = [(fused.network, "_conv_stem", "_bn0"), (fused.network, "_conv_head", "_bn1")]
        for block in fused.network._blocks:
            pairs += [
                (block, f"_{part}_conv", f"_bn{at}") for at, part in enumerate(("expand", "depthwise", "project"))
            ]
        for module, convolution, norm in pairs:
            if hasattr(module, convolution):  # the first blocks do not expand
                both = getattr(module, convolution), getattr(module, norm)
                setattr(module, convolution, fuse_conv_bn_eval(*both))
                setattr(module, norm, nn.Identity())
        return fused

    def forward(self, values_BCHW: torch.Tensor) -> torch.Tensor:
        """Token states (B, L, D)."""
        places_BLC = self.network.extract_features(values_BCHW).flatten(2).transpose(1, 2)
        return self.projection(torch.cat([places_BLC.mean(dim=1, keepdim=True), places_BLC], dim=1))
