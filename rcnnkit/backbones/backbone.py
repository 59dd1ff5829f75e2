"""What detectors ask of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Backbone(Protocol):
    """Pixels (B, 3, H, W), normalised → maps (B, channels, H / stride, W / stride), finest first.

    An `nn.Module` of any kind that has these three serves `FasterRCNN` and `FastRCNN`.
    """

    @property
    def strides(self) -> Sequence[int]: ...  # of the maps, pixels

    @property
    def channels(self) -> Sequence[int]: ...  # of the maps

    def __call__(self, pixels: Tensor) -> list[Tensor]: ...
