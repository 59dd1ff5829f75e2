"""GoogLeNet (arXiv:1409.4842): the paper's, with local response normalisation, and torchvision's, with batch norm.

torchvision's also has 3×3 convolutions where the paper has 5×5, and its last pooling is 2×2. Layers have torchvision's
names. The auxiliary classifiers, which only training from scratch has, are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rcnnkit.backbones.architecture import Architecture, NetworkSettings, RegionNetwork
from rcnnkit.backbones.imagenet import imagenet_weights
from rcnnkit.backbones.norms import Norm, norm_layer
from rcnnkit.backbones.response_norm import AcrossChannelsNorm
from rcnnkit.backbones.single_map import initialise
from rcnnkit.backbones.two_fc import RegionSettings
from rcnnkit.backbones.window import Averaged

GoogLeNetName = Literal["googlenet", "googlenet_lrn"]
# Channels of 1×1; 3×3 after its reduction; 5×5 after its reduction; 1×1 after pooling: the paper's table 1.
INCEPTIONS = {
    "inception3a": (64, (96, 128), (16, 32), 32),
    "inception3b": (128, (128, 192), (32, 96), 64),
    "inception4a": (192, (96, 208), (16, 48), 64),
    "inception4b": (160, (112, 224), (24, 64), 64),
    "inception4c": (128, (128, 256), (24, 64), 64),
    "inception4d": (112, (144, 288), (32, 64), 64),
    "inception4e": (256, (160, 320), (32, 128), 128),
    "inception5a": (256, (160, 320), (32, 128), 128),
    "inception5b": (384, (192, 384), (48, 128), 128),
}
MAP_CHANNELS, LAST_CHANNELS = 832, 1024  # of 4e and 5b
STAGES = 5  # conv1; conv2 and conv3; the inceptions 3, 4 and 5
DROPOUT = 0.4  # before the classifier: table 1


class GoogLeNet(nn.Module):
    """The convolutions of a GoogLeNet, without its classifier: one map.

    Up to 4e it has stride 16, and 5a and 5b are the per-region head (`Inception5`), after the ResNet paper's C4: the
    three detectors' papers have no GoogLeNet, so the split is ours. Whole it has stride 32.

    Args:
        name: which GoogLeNet.
        norm: of "googlenet": see `norm_layer`.
        pretrained: ImageNet weights, downloaded and checked by torchvision.
        frozen_stages: how many stages are not trained: 1 conv1, 2 also conv2 and conv3, 3 also 3a and 3b, …
        whole: up to 5b.
    """

    def __init__(
        self,
        name: GoogLeNetName,
        norm: Norm,
        pretrained: bool = False,
        frozen_stages: int = 0,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.stages = nn.ModuleList(_stage(number, name, norm) for number in range(STAGES if whole else STAGES - 1))
        self.strides, self.channels = ([32], [LAST_CHANNELS]) if whole else ([16], [MAP_CHANNELS])
        initialise(self, "fan_in")
        if pretrained:
            state = imagenet_weights(name)
            for stage in self.stages:
                _fill(stage, state)
        self.frozen = list(self.stages)[:frozen_stages]
        for part in self.frozen:
            part.requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the map, (B, channels, H / stride, W / stride), alone in a list."""
        for stage in self.stages:
            pixels = stage(pixels)
        return [pixels]

    def train(self, mode: bool = True) -> GoogLeNet:
        super().train(mode)
        for part in self.frozen:  # a frozen part does not gather batch statistics either
            part.eval()
        return self


class Inception5(nn.Sequential):
    """The last stage as the per-region head: (R, 832, 14, 14) → (R, 1024), averaged over its 7×7 output."""

    channels = LAST_CHANNELS

    def __init__(self, name: GoogLeNetName, norm: Norm, pretrained: bool = False) -> None:
        end = {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "dropout": nn.Dropout(DROPOUT)}
        super().__init__(OrderedDict([*_stage(STAGES - 1, name, norm).named_children(), *end.items()]))
        initialise(self, "fan_in")
        if pretrained:
            _fill(self, imagenet_weights(name))


class Inception(nn.Module):
    """Four views of a map side by side: (B, C, h, w) → (B, sum of the branches, h, w)."""

    def __init__(
        self, inputs: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int, layers: _Layers
    ) -> None:
        super().__init__()
        self.branch1 = layers.convolution(inputs, one, 1)
        self.branch2 = nn.Sequential(layers.convolution(inputs, three[0], 1), layers.convolution(*three, 3))
        self.branch3 = nn.Sequential(layers.convolution(inputs, five[0], 1), layers.convolution(*five, layers.five))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), layers.convolution(inputs, pooled, 1)
        )
        self.channels = one + three[1] + five[1] + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


@dataclass(frozen=True, slots=True)
class _Layers:
    """What the two networks do differently."""

    norm: Callable[[int], nn.Module] | None  # after each convolution
    five: int  # side of the "5×5" convolution
    pool4: int  # side of the last pooling
    response: Callable[[], nn.Module]  # local response normalisation

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        parts: dict[str, nn.Module] = {
            "conv": nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=self.norm is None)
        }
        if self.norm:
            parts["bn"] = self.norm(outputs)
        return nn.Sequential(OrderedDict(parts | {"relu": nn.ReLU(inplace=True)}))


def _layers(name: GoogLeNetName, norm: Norm) -> _Layers:
    if name == "googlenet_lrn":
        return _Layers(None, five=5, pool4=3, response=lambda: AcrossChannelsNorm(5))
    return _Layers(norm_layer(norm, eps=1e-3), five=3, pool4=2, response=nn.Identity)


def _stage(number: int, name: GoogLeNetName, norm: Norm) -> nn.Sequential:
    """Its layers by torchvision's names, with the pooling before them."""
    layers = _layers(name, norm)
    parts: dict[str, nn.Module] = {}
    if number:
        side = layers.pool4 if number == STAGES - 1 else 3
        parts[f"maxpool{number}"] = nn.MaxPool2d(side, stride=2, ceil_mode=True)
    if number == 0:
        parts["conv1"] = layers.convolution(3, 64, 7, stride=2)
    elif number == 1:
        parts["response1"] = layers.response()
        parts["conv2"] = layers.convolution(64, 64, 1)
        parts["conv3"] = layers.convolution(64, 192, 3)
        parts["response2"] = layers.response()
    else:
        channels = {2: 192, 3: 480, 4: MAP_CHANNELS}[number]
        for block in (key for key in INCEPTIONS if key.startswith(f"inception{number + 1}")):
            inception = Inception(channels, *INCEPTIONS[block], layers)
            parts[block] = inception
            channels = inception.channels
    return nn.Sequential(OrderedDict(parts))


def _fill(part: nn.Module, state: dict[str, Tensor]) -> None:
    """Its weights from those of torchvision's classifier, which calls them the same. Frozen norms count no batches."""
    part.load_state_dict({name: state[name] for name in part.state_dict()})


class GoogLeNetArchitecture(Architecture):
    """A GoogLeNet up to 4e, with 5a and 5b per region, or whole."""

    last_stage = "the last inceptions"

    def __init__(self, name: GoogLeNetName, norms: tuple[Norm, ...], smallest: int) -> None:
        super().__init__(name)
        self.googlenet: GoogLeNetName = name
        self.norms, self.smallest = norms, smallest

    def regions(self, settings: NetworkSettings, layers: RegionSettings) -> RegionNetwork:
        body = GoogLeNet(self.googlenet, settings.norm, settings.pretrained, settings.frozen_stages)
        inception5 = Inception5(self.googlenet, settings.norm, settings.pretrained)
        return RegionNetwork(body, inception5, inception5.channels, settings.pool_size or 14)

    def windows(self, settings: NetworkSettings, layers: RegionSettings, size: int) -> Averaged:
        body = GoogLeNet(self.googlenet, settings.norm, settings.pretrained, settings.frozen_stages, whole=True)
        return Averaged(body, size, DROPOUT)


GOOGLENETS = [
    GoogLeNetArchitecture("googlenet", ("frozen", "batch", "sync"), smallest=15),
    GoogLeNetArchitecture("googlenet_lrn", ("none",), smallest=31),
]
