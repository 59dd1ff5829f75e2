"""A classifier's layers as the features of warped regions (R-CNN, arXiv:1311.2524v5, section 2.2)."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.backbone import Backbone

Layer = Literal["pool5", "fc6", "fc7"]

# Cells of pool5 each way, at most, where a network ends in an average. Boxes are regressed from it, so it must tell
# where things are, but the 7 × 7 cells of ResNet-50 would be 100,000 numbers. Windows of up to 96 pixels have no more
# anyway.
MOST_CELLS = 3


class WindowNetwork(nn.Module):
    """Windows → pool5, fc6 and fc7, each flat and after its ReLU.

    Attributes:
        body: the convolutions.
        widths: how many numbers each layer gives.
    """

    body: Backbone
    widths: dict[Layer, int]

    def forward(self, windows: Tensor, last: Layer = "fc7") -> dict[str, Tensor]:
        """(R, 3, S, S) → {layer: (R, width)}, up to the layer `last`. Dropout works in training mode only."""
        raise NotImplementedError


class Averaged(WindowNetwork):
    """Networks that end in an average, such as ResNets: pool5 is the last map, and fc7 its average. There is no fc6.

    Args:
        body: a `Backbone`, whose last map is averaged.
        size: sides of a window, pixels.
        dropout: share of the average that training leaves out.
    """

    def __init__(self, body: Backbone, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.body, self.dropout = body, nn.Dropout(dropout)
        channels = body.channels[-1]
        self.cells = min(MOST_CELLS, math.ceil(size / body.strides[-1]))
        self.widths = {"pool5": channels * self.cells**2, "fc7": channels}

    def forward(self, windows: Tensor, last: Layer = "fc7") -> dict[str, Tensor]:
        cells = self.body(windows)[-1]
        average = self.dropout(cells.mean(dim=(2, 3)))
        return {"pool5": F.adaptive_avg_pool2d(cells, self.cells).flatten(1), "fc7": average}
