"""Convolutions that end in one map: what AlexNet, ZFNet and VGG are to a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rcnnkit.backbones.architecture import Architecture, NetworkSettings, RegionNetwork
from rcnnkit.backbones.imagenet import imagenet_weights
from rcnnkit.backbones.two_fc import RegionSettings, TwoFC
from rcnnkit.backbones.window import Layer, WindowNetwork

HIDDEN = 4096  # width of the fc6 and fc7 of all but VGG_CNN_M_1024


class SingleMap(nn.Module):
    """conv1 to conv5 of a classifier, with ReLU and without the last pooling: one map of stride 16.

    Args:
        stages: conv1 … conv5, each with the pooling before it.
        channels: of the map.
        pooling: the last one, which RoI pooling takes the place of. A whole classifier has it: `pool5` makes of the
            map of one warped region what fc6 reads; it has no weights, and `forward` leaves it alone.
        pool_size: fc6 reads (channels, pool_size, pool_size).
        frozen_stages: how many stages are not trained, from conv1 on.
        fc: widths of fc6 and fc7.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: int,
        pooling: nn.Module,
        pool_size: int,
        frozen_stages: int = 0,
        fc: tuple[int, int] = (HIDDEN, HIDDEN),
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.pool5 = nn.Sequential(pooling, nn.AdaptiveAvgPool2d(pool_size))  # averages nothing at the usual size
        self.strides, self.channels, self.pool_size, self.fc = [16], [channels], pool_size, fc
        initialise(self)
        for stage in self.stages[:frozen_stages]:
            stage.requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the map, (B, channels, H / 16, W / 16), alone in a list."""
        for stage in self.stages:
            pixels = stage(pixels)
        return [pixels]


class SingleMapWindows(WindowNetwork):
    """The whole network of warped regions: pool5, fc6 and fc7.

    Args:
        body: the convolutions.
        layers: fc6 and fc7.
    """

    body: SingleMap

    def __init__(self, body: SingleMap, layers: TwoFC) -> None:
        super().__init__()
        self.body, self.layers = body, layers
        fc6, fc7 = layers.widths
        self.widths = {"pool5": body.channels[-1] * body.pool_size**2, "fc6": fc6, "fc7": fc7}

    def forward(self, windows: Tensor, last: Layer = "fc7") -> dict[str, Tensor]:
        (cells,) = self.body(windows)
        features = {"pool5": self.body.pool5(cells).flatten(1)}
        if last != "pool5":
            features["fc6"] = self.layers.dropout(self.layers.relu(self.layers.fc6(features["pool5"])))
        if last == "fc7":
            features["fc7"] = self.layers.dropout(self.layers.relu(self.layers.fc7(features["fc6"])))
        return features


class SingleMapArchitecture(Architecture):
    """A network with conv1 to conv5, fc6 and fc7.

    Args:
        name: what `model.backbone` calls it.
        make: (frozen_stages, whole) → its convolutions, as a detector or as a classifier has them.
        window, smallest: see `Architecture`.
    """

    fc6 = True

    def __init__(self, name: str, make: Callable[[int, bool], SingleMap], window: int = 224, smallest: int = 1) -> None:
        super().__init__(name)
        self.make, self.window, self.smallest = make, window, smallest

    def regions(self, settings: NetworkSettings, layers: RegionSettings) -> RegionNetwork:
        body = self.make(settings.frozen_stages, False)
        size = settings.pool_size or body.pool_size
        head = self._two_fc(body, size, settings, layers)
        return RegionNetwork(body, head, head.widths[1], size)

    def windows(self, settings: NetworkSettings, layers: RegionSettings, size: int) -> SingleMapWindows:
        body = self.make(settings.frozen_stages, True)
        return SingleMapWindows(body, self._two_fc(body, body.pool_size, settings, layers))

    def _two_fc(self, body: SingleMap, size: int, settings: NetworkSettings, layers: RegionSettings) -> TwoFC:
        """Its own fc6 and fc7, filled with ImageNet's weights, as `body` is, where these are asked for."""
        ranks = {"fc6_rank": layers.fc6_rank, "fc7_rank": layers.fc7_rank}
        head = TwoFC(body.channels[0], size, layers.hidden or body.fc, dropout=0.5, **ranks)
        if settings.pretrained:
            fill_from_imagenet(self.name, body, head)
        return head


def initialise(network: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """He's weights (arXiv:1502.01852, 2.2) for its convolutions; the papers' N(0, 0.01) is lost after a few.

    Args:
        mode: what keeps its size from layer to layer, the signal ("fan_in") or the gradient; where layers grow
            narrower and wider again, as an inception's, only the first keeps both within bounds.
    """
    for layer in _convolutions(network):
        nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
        if layer.groups > 1 and mode == "fan_out":
            with torch.no_grad():
                layer.weight.mul_(layer.groups**0.5)  # a value goes to the outputs of its own group alone
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def fill_from_imagenet(name: str, body: SingleMap, head: TwoFC | None) -> None:
    """The convolutions, fc6 and fc7 of torchvision's classifier, with its ImageNet weights.

    Args:
        name: of the classifier.
        body: to be filled.
        head: likewise; None where a pyramid takes its place.

    Raises:
        OSError: the weights cannot be downloaded.
        ValueError: the head's layers have other sizes.
    """
    state = imagenet_weights(name)
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in state))  # features.0, …, classifier.1, …
    convolutions = [layer for layer in layers if layer.startswith("features.")]
    fc6, fc7, _ = [layer for layer in layers if layer.startswith("classifier.")]
    pairs: list[tuple[str, nn.Module]] = list(zip(convolutions, _convolutions(body), strict=True))
    for source, target in [*pairs, *([(fc6, head.fc6), (fc7, head.fc7)] if head else [])]:
        weight = state[f"{source}.weight"]
        if not isinstance(target, (nn.Conv2d, nn.Linear)) or target.weight.shape != weight.shape:
            raise ValueError(
                f"the pretrained {name} has a layer of {tuple(weight.shape)} where this one differs; leave head.hidden,"
                " head.fc6_rank, head.fc7_rank and model.pool_size at 0, or set model.pretrained = false"
            )
        target.load_state_dict({"weight": weight, "bias": state[f"{source}.bias"]})


def _convolutions(body: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in body.modules() if isinstance(layer, nn.Conv2d)]
