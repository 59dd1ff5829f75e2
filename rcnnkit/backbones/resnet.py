"""ResNets (arXiv:1512.03385) as detectors use them: torchvision's layers, one map per stage."""

from __future__ import annotations

from typing import Literal, get_args

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from rcnnkit.backbones.architecture import Architecture, NetworkSettings, RegionNetwork
from rcnnkit.backbones.imagenet import imagenet_weights
from rcnnkit.backbones.norms import Norm, norm_layer
from rcnnkit.backbones.two_fc import RegionSettings
from rcnnkit.backbones.window import Averaged

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


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
        name: ResNetName,
        norm: Norm,
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


def set_variant(network: nn.Module, norm_eps: float, stride_in_1x1: bool) -> None:
    """Make a ResNet one of those that other libraries trained; neither is seen in the weights.

    Args:
        network: a ResNet, or its last stage; changed in place.
        norm_eps: what batch norms add to the variance.
        stride_in_1x1: bottlenecks step in their first 1×1 convolution, as in the paper, Caffe and detectron2;
            torchvision's step in the 3×3.
    """
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            module.eps = norm_eps
        if stride_in_1x1 and isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)


def torchvision_resnet(name: ResNetName, norm: Norm, pretrained: bool) -> torchvision.models.ResNet:
    """torchvision's classifier, with ImageNet weights if asked for.

    Raises:
        ValueError: ImageNet weights are asked for with a norm that they were not trained with.
        OSError: the weights cannot be downloaded.
    """
    if not pretrained:
        return torchvision.models.get_model(name, norm_layer=norm_layer(norm))
    if norm not in ("batch", "frozen", "sync"):
        raise ValueError(f'model.pretrained = true goes with model.norm = "frozen", "batch" or "sync", not "{norm}"')
    net = torchvision.models.get_model(name, norm_layer=norm_layer(norm))
    net.load_state_dict(imagenet_weights(name), strict=norm != "frozen")  # frozen norms count no batches
    return net


class ResNetArchitecture(Architecture):
    """A ResNet: a pyramid, C4, or whole."""

    necks = ("fpn", "c4")
    norms = ("frozen", "batch", "sync", "group")
    last_stage = "stage 4"

    def __init__(self, name: ResNetName) -> None:
        super().__init__(name)
        self.resnet: ResNetName = name

    def pyramid(self, settings: NetworkSettings) -> ResNet:
        return self._body(settings, stages=4)

    def regions(self, settings: NetworkSettings, layers: RegionSettings) -> RegionNetwork:
        body = self._body(settings, stages=3)
        stage4 = Stage4(self.resnet, settings.norm, settings.pretrained)
        set_variant(stage4, settings.norm_eps, settings.stride_in_1x1)
        return RegionNetwork(ResNetC4(body), stage4, stage4.channels, settings.pool_size or 14)

    def windows(self, settings: NetworkSettings, layers: RegionSettings, size: int) -> Averaged:
        return Averaged(self._body(settings, stages=4), size)

    def _body(self, settings: NetworkSettings, stages: int) -> ResNet:
        body = ResNet(self.resnet, settings.norm, settings.pretrained, settings.frozen_stages, stages)
        set_variant(body, settings.norm_eps, settings.stride_in_1x1)
        return body


RESNETS = [ResNetArchitecture(name) for name in get_args(ResNetName)]
