"""How to turn pooled regions so that they become harder: a spatial transformer that learns against the head (the ASTN
of A-Fast-RCNN, Wang, Shrivastava and Gupta 2017, arXiv:1704.03414)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rcnnkit.backbones.spatial_transformer import rotations, sample
from rcnnkit.heads.spatial_dropout import halve, mask_side


class SpatialRotation(nn.Module):
    """Regions (R, C, s, s) → the same, whose blocks of channels are each turned by an angle that a network chooses.

    It starts without any turn. Behind its angles the gradient is reversed: the step that lowers the loss of what comes
    after it raises that loss by the angles. The regions' own gradient is as ever, and the network gives them none.

    Three fully connected layers, as in the paper, whose first two are ImageNet's fc6 and fc7; here they are fresh, and
    as narrow as `hidden`.

    Args:
        channels, size: C and s.
        hidden: units of the first two layers.
        blocks: into which the channels are cut; each has its own angle.
        degrees: the most that a block is turned, either way.

    Raises:
        ValueError: the channels cannot be cut into so many blocks.
    """

    def __init__(self, channels: int, size: int, hidden: int, blocks: int, degrees: float) -> None:
        super().__init__()
        if channels % blocks:
            raise ValueError(
                f"adversary.blocks = {blocks} does not divide the {channels} channels of a region; set it to"
                f" {math.gcd(channels, blocks)}"
            )
        self.blocks, self.most = blocks, math.radians(degrees)
        width = channels * mask_side(size) ** 2
        self.layers = nn.Sequential(
            halve(size), nn.Flatten(), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.last_layer = nn.Linear(hidden, blocks)
        nn.init.zeros_(self.last_layer.weight)
        nn.init.zeros_(self.last_layer.bias)

    def angles(self, regions: Tensor) -> Tensor:
        """(R, blocks) float32, radians; as of `SpatialTransformer`, positive ones turn what is shown to the left."""
        return self.most * torch.tanh(self.last_layer(self.layers(regions.detach())).float())

    def forward(self, regions: Tensor) -> Tensor:
        angles: Tensor = _Reversed.apply(self.angles(regions))
        parts = regions.unflatten(1, (self.blocks, -1)).flatten(0, 1)  # (R · blocks, C / blocks, s, s)
        return sample(parts, rotations(angles.flatten())).unflatten(0, (-1, self.blocks)).flatten(1, 2)


class _Reversed(torch.autograd.Function):
    """The same values, with the opposite gradient (gradient reversal, arXiv:1409.7495)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient
