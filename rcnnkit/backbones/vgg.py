"""VGG16 and VGG19 (arXiv:1409.1556): 3×3 convolutions, five stages of them."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.architecture import NetworkSettings
from rcnnkit.backbones.single_map import SingleMap, SingleMapArchitecture, fill_from_imagenet

VGGName = Literal["vgg16", "vgg19"]
CHANNELS = [64, 128, 256, 512, 512]  # of each stage's convolutions
CONVOLUTIONS = {"vgg16": [2, 2, 3, 3, 3], "vgg19": [2, 2, 4, 4, 4]}  # how many it has


def vgg(name: VGGName, frozen_stages: int = 0) -> SingleMap:
    """conv1_1 to conv5_3 (VGG19: conv5_4). Fast R-CNN freezes 2 stages, conv1_1 to conv2_2.

    Pooling rounds down, as torchvision's does; Caffe's rounds up, so that its map of 600 × 1000 pixels
    has 38 × 63 cells in place of 37 × 62. Pictures whose padded sides are multiples of 16 give both the same.
    """
    stages = []
    inputs = 3
    for number, (outputs, count) in enumerate(zip(CHANNELS, CONVOLUTIONS[name], strict=True)):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        stages.append(nn.Sequential(*layers))
    return SingleMap(stages, inputs, nn.MaxPool2d(2), 7, frozen_stages)


class VGGMaps(nn.Module):
    """The stages of a VGG as four maps, to build a pyramid on.

    The last maps of conv3, conv4 and conv5, and pool5: those that have a ResNet's strides. The choice is ours, as
    the FPN paper has ResNets alone.
    """

    def __init__(self, vgg: SingleMap) -> None:
        super().__init__()
        self.stages = vgg.stages
        self.strides, self.channels = [4, 8, 16, 32], [*CHANNELS[2:], CHANNELS[-1]]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → four maps, (B, channels, H / stride, W / stride)."""
        maps = []
        for stage in self.stages:
            pixels = stage(pixels)
            maps.append(pixels)
        return [*maps[2:], F.max_pool2d(pixels, 2)]


class VGG(SingleMapArchitecture):
    """VGG16 or VGG19; for a pyramid, see `VGGMaps`."""

    necks = ("none", "fpn")

    def __init__(self, name: VGGName) -> None:
        super().__init__(name, lambda frozen, whole: vgg(name, frozen), smallest=32)

    def pyramid(self, settings: NetworkSettings) -> VGGMaps:
        body = self.make(settings.frozen_stages, False)
        if settings.pretrained:
            fill_from_imagenet(self.name, body, None)
        return VGGMaps(body)


VGGS = [VGG(name) for name in get_args(VGGName)]
