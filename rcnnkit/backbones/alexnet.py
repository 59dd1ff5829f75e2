"""AlexNet as torchvision has it (arXiv:1404.5997): one column, no groups, no local response normalisation."""

from __future__ import annotations

from torch import nn

from rcnnkit.backbones.single_map import SingleMap, SingleMapArchitecture


def alexnet(frozen_stages: int = 0, *, padded: bool = True) -> SingleMap:
    """The five convolutions of AlexNet.

    Args:
        frozen_stages: convolutions that are not trained; Fast R-CNN freezes 1.
        padded: the pooling layers pad by one cell, so that the map has a cell for every 16 pixels: what the
            CaffeNet of Fast R-CNN's released code does. False gives torchvision's own maps, 13 × 13 of 224 or
            227 pixels, for a whole classifier.
    """

    def stage(*parts: nn.Module) -> nn.Sequential:
        return nn.Sequential(*parts, nn.ReLU(inplace=True))

    def pooling() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, stride=2, padding=int(padded))

    return SingleMap(
        [
            stage(nn.Conv2d(3, 64, 11, stride=4, padding=2)),
            stage(pooling(), nn.Conv2d(64, 192, 5, padding=2)),
            stage(pooling(), nn.Conv2d(192, 384, 3, padding=1)),
            stage(nn.Conv2d(384, 256, 3, padding=1)),
            stage(nn.Conv2d(256, 256, 3, padding=1)),
        ],
        channels=256,
        pooling=nn.MaxPool2d(3, stride=2),
        pool_size=6,
        frozen_stages=frozen_stages,
    )


ALEXNET = SingleMapArchitecture(
    "alexnet", lambda frozen, whole: alexnet(frozen, padded=not whole), window=227, smallest=63
)
