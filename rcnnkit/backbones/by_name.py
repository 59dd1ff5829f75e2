"""The backbones by their names: which there are, what the settings may say of each, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rcnnkit.backbones.alexnet import alexnet
from rcnnkit.backbones.caffenet import caffenet
from rcnnkit.backbones.googlenet import GoogLeNet, GoogLeNetName
from rcnnkit.backbones.resnet import Norm, ResNet, ResNetName
from rcnnkit.backbones.single_map import SingleMap
from rcnnkit.backbones.vgg import VGGName, vgg
from rcnnkit.backbones.vgg_cnn_m import vgg_cnn_m_1024
from rcnnkit.backbones.zfnet import zfnet

BackboneName = Literal["alexnet", "caffenet", "zfnet", "vgg_cnn_m_1024", VGGName, GoogLeNetName, ResNetName]
# c4: stages 1 to 3 of a ResNet, its stage 4 per region. none: one map of stride 16, and what follows it per region.
Neck = Literal["fpn", "c4", "none"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What the settings may say of a backbone."""

    necks: tuple[Neck, ...] = ("none",)  # the first is the default
    norms: tuple[Norm, ...] = ("none",)  # likewise
    fc6: bool = True  # and fc7; others end in an average
    window: int = 224  # sides of R-CNN's windows, pixels
    smallest: int = 1  # of windows that leave a cell to pool5


TRAITS: dict[str, Traits] = {
    "alexnet": Traits(window=227, smallest=63),
    "caffenet": Traits(window=227, smallest=39),
    "zfnet": Traits(),
    "vgg_cnn_m_1024": Traits(smallest=41),
    **dict.fromkeys(get_args(VGGName), Traits(necks=("none", "fpn"), smallest=32)),
    "googlenet": Traits(norms=("frozen", "batch"), fc6=False, smallest=15),
    "googlenet_lrn": Traits(fc6=False, smallest=31),
    **dict.fromkeys(get_args(ResNetName), Traits(necks=("fpn", "c4"), norms=("frozen", "batch", "group"), fc6=False)),
}


def convolutions(
    name: BackboneName, norm: Norm = "none", pretrained: bool = False, frozen_stages: int = 0, whole: bool = False
) -> SingleMap | GoogLeNet | ResNet:
    """A network without its fully connected layers.

    Args:
        name: which one.
        norm: see `norm_layer`; "none" for those that have none.
        pretrained: ImageNet weights; those of a `SingleMap` are `fill_from_imagenet`'s.
        frozen_stages: parts that are not trained, from the first layers on.
        whole: as a classifier has it. Otherwise its last stage is left to the regions where there are no fully
            connected layers, and AlexNet and CaffeNet are padded.
    """
    match name:
        case "alexnet":
            return alexnet(frozen_stages, padded=not whole)
        case "caffenet":
            return caffenet(frozen_stages, padded=not whole)
        case "zfnet":
            return zfnet(frozen_stages)
        case "vgg_cnn_m_1024":
            return vgg_cnn_m_1024(frozen_stages)
        case "vgg16" | "vgg19":
            return vgg(name, frozen_stages)
        case "googlenet" | "googlenet_lrn":
            return GoogLeNet(name, norm, pretrained, frozen_stages, whole)
        case _:
            return ResNet(name, norm, pretrained, frozen_stages, 4 if whole else 3)
