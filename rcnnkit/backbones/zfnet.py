"""ZFNet (arXiv:1311.2901) as Faster R-CNN's released code has it: every layer is padded."""

from __future__ import annotations

from torch import nn

from rcnnkit.backbones.response_norm import WithinChannelNorm
from rcnnkit.backbones.single_map import SingleMap, SingleMapArchitecture

# Channels, kernel, stride and padding of conv1 to conv5.
CONVOLUTIONS = [(96, 7, 2, 3), (256, 5, 2, 2), (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1)]
POOLED = 2  # conv1 and conv2 are followed by normalisation and pooling


def zfnet(frozen_stages: int = 0) -> SingleMap:
    """conv1 to conv5: 224 pixels → 15 × 15.

    The published classifier has 13 × 13 cells there, pooled 3 × 3 with stride 2; these layers are padded for
    detection and have 15, so a whole classifier takes the largest of each of 6 × 6 parts of them (our choice).

    Args:
        frozen_stages: convolutions that are not trained; Faster R-CNN freezes none.
    """
    stages = []
    inputs = 3
    for number, (outputs, kernel, stride, padding) in enumerate(CONVOLUTIONS):
        layers: list[nn.Module] = []
        if 0 < number <= POOLED:
            layers += [WithinChannelNorm(), nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)]
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)]
        stages.append(nn.Sequential(*layers))
        inputs = outputs
    return SingleMap(stages, inputs, nn.AdaptiveMaxPool2d(6), 6, frozen_stages)


ZFNET = SingleMapArchitecture("zfnet", lambda frozen, whole: zfnet(frozen))
