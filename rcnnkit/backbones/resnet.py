"""ResNets (arXiv:1512.03385) as detectors use them: torchvision's layers, one map per stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from rcnnkit.backbones.imagenet import imagenet_weights

Norm = Literal["batch", "frozen", "group", "none"]
ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's, but half precision stays half: its float32 statistics would carry the rest along."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale[:, None, None].to(x.dtype) + bias[:, None, None].to(x.dtype)


def norm_layer(norm: Norm, eps: float = 1e-5) -> Callable[[int], nn.Module]:
    """What makes a normalisation layer for so many channels; `eps` is added to the variance.

    "frozen" keeps the statistics and scales of pretrained weights, as the Faster R-CNN of the ResNet paper
    does; "batch" learns them, which training from scratch needs; "group" (arXiv:1803.08494) learns, and does
    not look at the batch.
    """
    layers: dict[str, Callable[[int], nn.Module]] = {
        "batch": lambda channels: nn.BatchNorm2d(channels, eps),
        "frozen": lambda channels: FrozenNorm(channels, eps),
        "group": lambda channels: nn.GroupNorm(32, channels, eps),
        "none": lambda channels: nn.Identity(),
    }
    return layers[norm]


class ResNet(nn.Module):
    """The convolutions of a ResNet, without its classifier.

    Args:
        name: which ResNet.
        norm: see `norm_layer`.
        pretrained: ImageNet weights, downloaded and checked by torchvision.
        frozen_stages: how many parts are not trained, from the stem on: 0 none, 1 the stem, 2 also stage 1, …
        stages: how many of the four stages.
    """

    def __init__(
        self,
        name: ResNetName = "resnet50",
        norm: Norm = "frozen",
        pretrained: bool = False,
        frozen_stages: int = 0,
        stages: int = 4,
    ) -> None:
        super().__init__()
        net = torchvision_resnet(name, norm, pretrained)
        self.name = name
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4][:stages])
        wide = net.fc.in_features
        self.channels = [wide // 8, wide // 4, wide // 2, wide][:stages]
        self.strides = [4, 8, 16, 32][:stages]
        self.frozen = [self.stem, *self.stages][:frozen_stages]
        for part in self.frozen:
            part.requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the map of each stage, (B, channels, H / stride, W / stride)."""
        x = self.stem(pixels)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        for part in self.frozen:  # a frozen part does not gather batch statistics either
            part.eval()
        return self


class ResNetC4(nn.Module):
    """Stem and stages 1 to 3: one map of stride 16, as in the ResNet paper's Faster R-CNN."""

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.body = resnet
        self.strides, self.channels = [16], [resnet.channels[2]]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self.body(pixels)[2:3]


class Stage4(nn.Sequential):
    """The last stage as the per-region head: (R, C, 14, 14) → (R, channels), averaged over its 7×7 output."""

    def __init__(self, name: ResNetName, norm: Norm, pretrained: bool = False) -> None:
        net = torchvision_resnet(name, norm, pretrained)
        super().__init__(net.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.channels: int = net.fc.in_features


def torchvision_resnet(name: ResNetName, norm: Norm, pretrained: bool) -> torchvision.models.ResNet:
    """torchvision's classifier, with ImageNet weights if asked for.

    Raises:
        ValueError: ImageNet weights are asked for with a norm that they were not trained with.
        OSError: the weights cannot be downloaded.
    """
    if not pretrained:
        return torchvision.models.get_model(name, norm_layer=norm_layer(norm))
    if norm not in ("batch", "frozen"):
        raise ValueError(f'model.pretrained = true goes with model.norm = "frozen" or "batch", not "{norm}"')
    net = torchvision.models.get_model(name, norm_layer=norm_layer(norm))
    net.load_state_dict(imagenet_weights(name), strict=norm != "frozen")  # frozen norms count no batches
    return net
