"""What a network says of itself, so that settings can name it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import nn

from rcnnkit.backbones.backbone import Backbone
from rcnnkit.backbones.imagenet import Colour, imagenet_normalisation, imagenet_origin
from rcnnkit.backbones.norms import Norm
from rcnnkit.backbones.two_fc import RegionSettings
from rcnnkit.backbones.window import WindowNetwork
from rcnnkit.settings import Count, NotNegative, Positive, Section

# fpn: a pyramid on maps of strides 4 to 32. c4: one map, and a ResNet's stage 4 per region. none: one map of stride 16,
# and what follows it in the network per region.
Neck = Literal["fpn", "c4", "none"]


class NetworkSettings(Section):
    """The settings that a backbone is made from."""

    backbone: str = "resnet50"
    neck: Neck = "fpn"  # the default is the network's own first
    norm: Norm = "frozen"  # from scratch: "batch" or, of ResNets, "group"; "none" where the network has none
    norm_eps: NotNegative = 1e-5  # of a ResNet's norms; torchvision's first Faster R-CNN on COCO was trained with 0
    stride_in_1x1: bool = False  # of a ResNet's bottlenecks: the paper's and Caffe's; torchvision's is in the 3×3
    pretrained: bool = False  # ImageNet weights, and with them their input.mean and input.std
    # From the first layers on; 2: stem and stage 1, or VGG16's conv1_1 to conv2_2, as the papers' code.
    frozen_stages: Count = 0
    fpn_channels: Positive = 256
    fpn_norm: Norm = "none"  # and of the head's convolutions, where head.convs
    pool_size: Count = 0  # 0: 7 with an FPN or VGG, 14 with C4 or GoogLeNet, 6 with the others


@dataclass(frozen=True, slots=True)
class RegionNetwork:
    """A network cut in two: what sees the picture, and what sees each region of its map."""

    backbone: Backbone
    layers: nn.Module  # regions (R, C, size, size) → (R, width)
    width: int
    size: int  # sides of a pooled region, cells


class Architecture(ABC):
    """A network that settings can name. A family of them is a file, with a subclass and its instances.

    Args:
        name: what `model.backbone` calls it.
    """

    necks: tuple[Neck, ...] = ("none",)  # the first is the default
    norms: tuple[Norm, ...] = ("none",)  # likewise
    fc6 = False  # whether it has fc6 and fc7; others end in an average
    window = 224  # sides of R-CNN's windows, pixels
    smallest = 1  # sides of the smallest window that leaves a cell to pool5
    stages = 5  # that can be frozen, the stem's among them …
    last_stage = ""  # … of which this is the per-region head, except of a pyramid

    def __init__(self, name: str) -> None:
        self.name = name

    def pyramid(self, settings: NetworkSettings) -> Backbone:
        """Four maps of strides 4, 8, 16 and 32, for an FPN. Only those with the neck "fpn" are asked."""
        raise ValueError(f'model.neck = "fpn" does not go with {self.name}')

    @abstractmethod
    def regions(self, settings: NetworkSettings, layers: RegionSettings) -> RegionNetwork:
        """One map, and the per-region layers that the network goes on with."""

    @abstractmethod
    def windows(self, settings: NetworkSettings, layers: RegionSettings, size: int) -> WindowNetwork:
        """The whole network up to fc7, for windows or pictures with sides of `size` pixels."""

    def normalisation(self) -> tuple[Colour, Colour]:
        """Mean and standard deviation of the pixels that the ImageNet weights know. ValueError: there are none."""
        return imagenet_normalisation(self.name)

    def origin(self) -> dict[str, str]:
        """Where the ImageNet weights come from, and their licence. ValueError: there are none."""
        return imagenet_origin(self.name)
