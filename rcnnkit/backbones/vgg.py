"""VGG16 (arXiv:1409.1556): 3×3 convolutions, five stages of them."""

from __future__ import annotations

from torch import nn

from rcnnkit.backbones.single_map import SingleMap

STAGES = [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]  # channels of each convolution


def vgg16(frozen_stages: int = 0) -> SingleMap:
    """conv1_1 to conv5_3. Fast R-CNN freezes 2 stages, conv1_1 to conv2_2."""
    stages = []
    inputs = 3
    for number, channels in enumerate(STAGES):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        stages.append(nn.Sequential(*layers))
    return SingleMap(stages, inputs, nn.MaxPool2d(2), 7, frozen_stages)
