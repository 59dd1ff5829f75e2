"""A classifier's layers as the features of warped regions (R-CNN, arXiv:1311.2524v5, section 2.2)."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.resnet import ResNet
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.heads.two_fc import TwoFC

Layer = Literal["pool5", "fc6", "fc7"]

# Cells of a ResNet's pool5 each way, at most. Boxes are regressed from it, so it must tell where things are, but
# the 7 × 7 cells of ResNet-50 would be 100,000 numbers. Windows of up to 96 pixels have no more anyway.
RESNET_CELLS, RESNET_STRIDE = 3, 32


class WindowNetwork(nn.Module):
    """Windows → pool5, fc6 and fc7, each flat and after its ReLU.

    AlexNet and VGG have these layers. Of a ResNet, pool5 is the map of stage 4 and fc7 its average; there is no fc6.

    Args:
        body: the convolutions.
        head: fc6 and fc7 of AlexNet or VGG; None for a ResNet.
        hidden: how wide these are.
        size: sides of a window, pixels.
    """

    def __init__(self, body: SingleMap | ResNet, head: TwoFC | None, hidden: int, size: int) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.cells = min(RESNET_CELLS, math.ceil(size / RESNET_STRIDE))
        cells = body.pool_size if isinstance(body, SingleMap) else self.cells
        width = hidden or body.channels[-1]
        # How many numbers each layer gives.
        self.widths = {"pool5": body.channels[-1] * cells**2, "fc6": width, "fc7": width}

    def forward(self, windows: Tensor, last: Layer = "fc7") -> dict[str, Tensor]:
        """(R, 3, S, S) → {layer: (R, width)}, up to the layer `last`. Dropout works in training mode only."""
        cells = self.body(windows)[-1]
        if self.head is None or not isinstance(self.body, SingleMap):
            return {"pool5": F.adaptive_avg_pool2d(cells, self.cells).flatten(1), "fc7": cells.mean(dim=(2, 3))}
        layers = {"pool5": self.body.pool5(cells).flatten(1)}
        if last != "pool5":
            layers["fc6"] = self.head.dropout(self.head.relu(self.head.fc6(layers["pool5"])))
        if last == "fc7":
            layers["fc7"] = self.head.dropout(self.head.relu(self.head.fc7(layers["fc6"])))
        return layers
