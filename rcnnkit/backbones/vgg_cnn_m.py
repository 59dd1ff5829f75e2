"""VGG_CNN_M_1024 (arXiv:1405.3531), Fast R-CNN's model M: wider than AlexNet, and as deep."""

from __future__ import annotations

from torch import nn

from rcnnkit.backbones.response_norm import AcrossChannelsNorm
from rcnnkit.backbones.single_map import SingleMap, SingleMapArchitecture

# Channels, kernel, stride and padding of conv1 to conv5.
CONVOLUTIONS = [(96, 7, 2, 0), (256, 5, 2, 1), (512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1)]
POOLED = 2  # conv1 and conv2 are followed by normalisation and pooling
FC = (4096, 1024)  # widths of fc6 and fc7


def vgg_cnn_m_1024(frozen_stages: int = 0) -> SingleMap:
    """conv1 to conv5: 224 pixels → 13 × 13. Fast R-CNN freezes 1 stage, conv1.

    conv1 and the pooling are not padded, so the first cell is centred on pixel 17, where that of ZFNet and the padded
    CaffeNet is on pixel 0. Fast R-CNN's released code pools regions from all of them alike, and so do we.
    """
    stages = []
    inputs = 3
    for number, (outputs, kernel, stride, padding) in enumerate(CONVOLUTIONS):
        layers: list[nn.Module] = []
        if 0 < number <= POOLED:
            layers += [AcrossChannelsNorm(5, alpha=5e-4, k=2), nn.MaxPool2d(3, stride=2, ceil_mode=True)]
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)]
        stages.append(nn.Sequential(*layers))
        inputs = outputs
    return SingleMap(stages, inputs, nn.MaxPool2d(3, stride=2, ceil_mode=True), 6, frozen_stages, fc=FC)


VGG_CNN_M = SingleMapArchitecture("vgg_cnn_m_1024", lambda frozen, whole: vgg_cnn_m_1024(frozen), smallest=41)
