"""Normalisation layers by their names in the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Literal["batch", "frozen", "sync", "group", "none"]


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's, but half precision stays half: its float32 statistics would carry the rest along."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale[:, None, None].to(x.dtype) + bias[:, None, None].to(x.dtype)


def norm_layer(norm: Norm, eps: float = 1e-5) -> Callable[[int], nn.Module]:
    """What makes a normalisation layer for so many channels; `eps` is added to the variance.

    "frozen" keeps the statistics and scales of pretrained weights, as the Faster R-CNN of the ResNet paper
    does; "batch" learns them, which training from scratch needs; "sync" is the same, and a training by several
    processes computes it over the pictures of all; "group" (arXiv:1803.08494) learns, and does
    not look at the batch.
    """
    layers: dict[str, Callable[[int], nn.Module]] = {
        "batch": lambda channels: nn.BatchNorm2d(channels, eps),
        "sync": lambda channels: nn.BatchNorm2d(channels, eps),
        "frozen": lambda channels: FrozenNorm(channels, eps),
        "group": lambda channels: nn.GroupNorm(32, channels, eps),
        "none": lambda channels: nn.Identity(),
    }
    return layers[norm]
