"""VGG16 and VGG19 (arXiv:1409.1556): 3×3 convolutions, five stages of them."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.single_map import SingleMap

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
