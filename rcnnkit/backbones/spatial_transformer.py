"""Spatial transformer: a network that chooses how its input is turned, scaled and moved (Jaderberg et al. 2015,
arXiv:1506.02025v3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.settings import Factor, Positive, Section

FILTERS, KERNEL = 20, 5  # of the localisation network's convolutions (appendix A.4)
SMALL = 12  # cells; larger maps are halved, convolution by convolution, before the fully connected layers
LARGEST = 4.0  # times larger or smaller, at most, that "attention" shows its input
PARAMETERS = {"rotation": 1, "attention": 3, "affine": 6}


class TransformerSettings(Section):
    """[transformer]: a spatial transformer (arXiv:1506.02025). It comes before the network of a classifier and of
    R-CNN's windows, and before the class scores of Fast and Faster R-CNN's regions; boxes are computed from what is not
    transformed."""

    kind: Literal["none", "rotation", "attention", "affine"] = "none"
    """What it may do. rotation: turn. attention: scale and move (equation 2). affine: all of a 2×3 matrix (equation
    1)."""
    hidden: Positive = 32
    """Units of each of the two fully connected layers that look at the input (appendix A.5)."""
    localisation_lr: Factor = 0.1
    """Learning rate of the layers that choose, as a multiple of the network's. 0.1 is the paper's for long runs
    (appendix A.5). Runs of a few hundred iterations need 1: with less they hardly move."""


class SpatialTransformer(nn.Module):
    """Maps → the same maps, each turned, scaled and moved as a small network chooses from it (section 3).

    It starts as the identity, whose answers are the input's to the last bit. Where a sample lies outside the map, its
    border continues.

    Where this leaves the paper: what the network chooses is bounded by a tanh, so that no step can lose the map
    altogether; the border continues, where the paper has zeros; and cells' edges, not their centres, lie at −1 and 1,
    as in torch today, which is right at any resolution.

    Args:
        channels: C of the maps.
        size: their sides, cells.
        settings: see `TransformerSettings`; with a kind other than "none".
    """

    def __init__(self, channels: int, size: int, settings: TransformerSettings) -> None:
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        side = size
        if side > SMALL:  # the paper's localisation networks look at half the resolution
            layers, side = [nn.AvgPool2d(2)], side // 2
        while side > SMALL:
            layers += [nn.Conv2d(channels, FILTERS, KERNEL, padding=KERNEL // 2), nn.ReLU(), nn.MaxPool2d(2)]
            channels, side = FILTERS, side // 2
        hidden = settings.hidden
        layers += [nn.Flatten(), nn.Linear(channels * side**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.localisation = nn.Sequential(*layers)
        self.last_layer = nn.Linear(hidden, PARAMETERS[settings.kind])
        nn.init.zeros_(self.last_layer.weight)
        nn.init.zeros_(self.last_layer.bias)

    def theta(self, maps: Tensor) -> Tensor:
        """(N, 2, 3) float32: for each map, where its output is read from, in [−1, 1] each way (equation 1)."""
        with torch.autocast(maps.device.type, enabled=False):
            parameters = self.last_layer(self.localisation(maps.float()))
            if self.settings.kind == "rotation":
                return rotations(math.pi * torch.tanh(parameters[:, 0] / math.pi))
            if self.settings.kind == "attention":
                size = (math.log(LARGEST) * torch.tanh(parameters[:, 0])).exp()
                x, y = torch.tanh(parameters[:, 1]), torch.tanh(parameters[:, 2])
                none = torch.zeros_like(size)
                rows = [size, none, x, none, size, y]
            else:
                rows = list((torch.tanh(parameters) + parameters.new_tensor([1, 0, 0, 0, 1, 0])).unbind(1))
            return torch.stack(rows, 1).view(-1, 2, 3)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, S, S) → the same shape and type."""
        return sample(maps, self.theta(maps))


def rotations(angles: Tensor) -> Tensor:
    """(N, 2, 3): where to read, so that what is shown is turned by these angles (N,), radians, to the left."""
    cos, sin, none = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3)


def sample(maps: Tensor, theta: Tensor) -> Tensor:
    """Each map read where `theta` says, bilinearly (equations 3 and 5); differentiable in both.

    Args:
        maps: (N, C, H, W); any floating type.
        theta: (N, 2, 3) float32, or float64, which is then computed in; see `SpatialTransformer.theta`.

    Returns:
        (N, C, H, W) in the maps' type. Identities give the maps to the last bit.
    """
    height, width = maps.shape[2:]
    with torch.autocast(maps.device.type, enabled=False):
        x, y = (torch.arange(side, device=maps.device, dtype=theta.dtype) for side in (width, height))
        across, down = torch.meshgrid((2 * x + 1) / width - 1, (2 * y + 1) / height - 1, indexing="xy")
        targets = torch.stack([across, down, torch.ones_like(across)], -1)  # (H, W, 3)
        identity = torch.eye(2, 3, device=theta.device, dtype=theta.dtype)
        moves = torch.einsum("nij,hwj->nhwi", theta - identity, targets)  # by how much of the map; 0 for an identity
        # grid_sample's own way from a share of the map to a cell is exact where sides are powers of two. On such a
        # canvas, whose further cells repeat the border, a sample that stays where it is has the weights 1 and 0.
        sides = [1 << max(side - 1, 1).bit_length() for side in (width, height)]
        places = [x + moves[..., 0] * (width / 2), y[:, None] + moves[..., 1] * (height / 2)]
        places = [place.clamp(0, side - 1) for place, side in zip(places, (width, height), strict=True)]
        grid = torch.stack([(2 * place + 1) / side - 1 for place, side in zip(places, sides, strict=True)], -1)
        canvas = F.pad(maps.to(theta.dtype), (0, sides[0] - width, 0, sides[1] - height), mode="replicate")
        return F.grid_sample(canvas, grid, padding_mode="border", align_corners=False).to(maps.dtype)
