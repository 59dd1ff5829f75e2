"""CaffeNet, the AlexNet of R-CNN and of Fast R-CNN's model S: one column with two groups, normalised after pooling."""

from __future__ import annotations

from torch import nn

from rcnnkit.backbones.response_norm import AcrossChannelsNorm
from rcnnkit.backbones.single_map import SingleMap, SingleMapArchitecture

# Channels, kernel, padding and groups of conv2 to conv5; conv1 is 11×11, stride 4.
CONVOLUTIONS = [(256, 5, 2, 2), (384, 3, 1, 1), (384, 3, 1, 2), (256, 3, 1, 2)]
POOLED = 2  # conv1 and conv2 are followed by pooling and normalisation


def caffenet(frozen_stages: int = 0, *, padded: bool = True) -> SingleMap:
    """conv1 to conv5 of Caffe's reference network, which normalises after pooling where AlexNet does before.

    Args:
        frozen_stages: convolutions that are not trained; Fast R-CNN freezes 1.
        padded: conv1 pads by 5 pixels and pooling by a cell, so that cells lie 16 pixels apart from the picture's
            edge on, as in Fast R-CNN's released code. False gives the whole classifier of R-CNN, 227 pixels → 13 × 13.
    """
    stages: list[list[nn.Module]] = [[nn.Conv2d(3, 96, 11, stride=4, padding=5 if padded else 0)]]
    inputs = 96
    for number, (outputs, kernel, padding, groups) in enumerate(CONVOLUTIONS):
        between: list[nn.Module] = []
        if number < POOLED:
            between += [nn.MaxPool2d(3, stride=2, padding=int(padded), ceil_mode=True), AcrossChannelsNorm(5)]
        stages.append([*between, nn.Conv2d(inputs, outputs, kernel, padding=padding, groups=groups)])
        inputs = outputs
    return SingleMap(
        [nn.Sequential(*stage, nn.ReLU(inplace=True)) for stage in stages],
        channels=256,
        pooling=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        pool_size=6,
        frozen_stages=frozen_stages,
    )


CAFFENET = SingleMapArchitecture(
    "caffenet", lambda frozen, whole: caffenet(frozen, padded=not whole), window=227, smallest=39
)
