"""A classifier's layers as the features of warped regions (R-CNN, arXiv:1311.2524v5, section 2.2)."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.googlenet import DROPOUT, GoogLeNet
from rcnnkit.backbones.resnet import ResNet
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.heads.two_fc import TwoFC

Layer = Literal["pool5", "fc6", "fc7"]

# Cells of a ResNet's or GoogLeNet's pool5 each way, at most. Boxes are regressed from it, so it must tell where things
# are, but the 7 × 7 cells of ResNet-50 would be 100,000 numbers. Windows of up to 96 pixels have no more anyway.
RESNET_CELLS, RESNET_STRIDE = 3, 32


class WindowNetwork(nn.Module):
    """Windows → pool5, fc6 and fc7, each flat and after its ReLU.

    AlexNet, ZFNet and VGG have these layers. Of a ResNet or GoogLeNet, pool5 is the last map and fc7 its average; there
    is no fc6.

    Args:
        body: the convolutions.
        head: fc6 and fc7 of AlexNet, ZFNet or VGG; None for the others.
        hidden: how wide fc7 is.
        size: sides of a window, pixels.
    """

    def __init__(self, body: SingleMap | ResNet | GoogLeNet, head: TwoFC | None, hidden: int, size: int) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.cells = min(RESNET_CELLS, math.ceil(size / RESNET_STRIDE))
        cells = body.pool_size if isinstance(body, SingleMap) else self.cells
        fc7 = hidden or body.channels[-1]
        # How many numbers each layer gives.
        self.widths = {"pool5": body.channels[-1] * cells**2, "fc6": head.widths[0] if head else fc7, "fc7": fc7}
        self.dropout = nn.Dropout(DROPOUT if isinstance(body, GoogLeNet) else 0.0)  # of an average; fc6 has its own

    def forward(self, windows: Tensor, last: Layer = "fc7") -> dict[str, Tensor]:
        """(R, 3, S, S) → {layer: (R, width)}, up to the layer `last`. Dropout works in training mode only."""
        cells = self.body(windows)[-1]
        if self.head is None or not isinstance(self.body, SingleMap):
            average = self.dropout(cells.mean(dim=(2, 3)))
            return {"pool5": F.adaptive_avg_pool2d(cells, self.cells).flatten(1), "fc7": average}
        layers = {"pool5": self.body.pool5(cells).flatten(1)}
        if last != "pool5":
            layers["fc6"] = self.head.dropout(self.head.relu(self.head.fc6(layers["pool5"])))
        if last == "fc7":
            layers["fc7"] = self.head.dropout(self.head.relu(self.head.fc7(layers["fc6"])))
        return layers
