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

Neck = Literal["fpn", "c4", "none"]


class NetworkSettings(Section):
    """The settings that a backbone is made from."""

    backbone: str = "resnet50"
    """The network: alexnet, caffenet, zfnet, vgg_cnn_m_1024, vgg16, vgg19, googlenet, googlenet_lrn, resnet18,
    resnet34, resnet50, resnet101, resnet152, or timm/NAME for one of timm's networks."""
    neck: Neck = "fpn"
    """What lies between the network and the head. fpn: a pyramid of maps with strides 4 to 32 (FPN, arXiv:1612.03144).
    c4: one map of stride 16, and a ResNet's stage 4 for each region (arXiv:1512.03385). none: one map of stride 16, and
    the rest of the network for each region. Not given: the backbone's own, which is fpn for ResNets and timm's networks
    and none for the others."""
    norm: Norm = "frozen"
    """The backbone's normalisation. frozen: batch norm with the statistics and scales of the pretrained weights. batch:
    batch norm that learns, for training from scratch. sync: the same, with statistics over the pictures of all
    processes that train together; it needs GPUs, and also holds for the model's other batch norms. group: group norm
    (arXiv:1803.08494), for ResNets. none: for networks without normalisation. Not given: the backbone's own, which is
    frozen for ResNets."""
    norm_eps: NotNegative = 1e-5
    """What a ResNet's norms add to the variance. torchvision's first Faster R-CNN on COCO was trained with 0."""
    stride_in_1x1: bool = False
    """A ResNet's bottlenecks stride in their first 1×1 convolution, as in the paper (arXiv:1512.03385) and in Caffe's
    weights. false: in their 3×3 convolution, as in torchvision."""
    pretrained: bool = False
    """Start from torchvision's ImageNet weights, or from timm's. They bring their own `input.mean` and `input.std`, and
    are downloaded once."""
    frozen_stages: Count = 0
    """How many parts of the backbone are not trained, counted from the first layer. 2: the stem and stage 1 of a
    ResNet, or conv1_1 to conv2_2 of VGG16, as in the code of Fast and Faster R-CNN. 0: all are trained."""
    fpn_channels: Positive = 256
    """Channels of each map of the pyramid; 256 in the FPN paper. Only with neck = "fpn"."""
    fpn_norm: Norm = "none"
    """Normalisation in the pyramid, and in the head's convolutions where `head.convs` is above 0. The FPN paper has
    none; from scratch, take batch or group."""
    pool_size: Count = 0
    """Cells of a pooled region along each side. 0: 7 with a pyramid or a VGG, 14 with c4 or GoogLeNet, 7 with timm's
    networks, 6 with the others."""

    @property
    def strides(self) -> list[int]:
        """Of the maps that a region proposal network looks at, pixels of the network's input, finest first."""
        return [4, 8, 16, 32, 64] if self.neck == "fpn" else [16]


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
