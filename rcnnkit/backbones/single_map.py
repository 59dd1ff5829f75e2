"""Convolutions that end in one map: what AlexNet and VGG are to a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from rcnnkit.backbones.imagenet import imagenet_weights
from rcnnkit.heads.two_fc import TwoFC

SingleMapName = Literal["alexnet", "vgg16"]
HIDDEN = 4096  # width of the fc6 and fc7 of both


class SingleMap(nn.Module):
    """conv1 to conv5 of a classifier, with ReLU and without the last pooling: one map of stride 16.

    Args:
        stages: conv1 … conv5, each with the pooling before it.
        channels: of the map.
        pooling: the last one, which RoI pooling takes the place of. A whole classifier has it: `pool5` makes of the
            map of one warped region what fc6 reads; it has no weights, and `forward` leaves it alone.
        pool_size: fc6 reads (channels, pool_size, pool_size).
        frozen_stages: how many stages are not trained, from conv1 on.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: int,
        pooling: nn.Module,
        pool_size: int,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.pool5 = nn.Sequential(pooling, nn.AdaptiveAvgPool2d(pool_size))  # averages nothing at the usual size
        self.strides, self.channels, self.pool_size = [16], [channels], pool_size
        for layer in _convolutions(self):  # He's; the papers' N(0, 0.01) is lost after a few layers
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # these have one
        for stage in self.stages[:frozen_stages]:
            stage.requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the map, (B, channels, H / 16, W / 16), alone in a list."""
        for stage in self.stages:
            pixels = stage(pixels)
        return [pixels]


def fill_from_imagenet(name: SingleMapName, body: SingleMap, head: TwoFC) -> None:
    """The convolutions, fc6 and fc7 of torchvision's classifier, with its ImageNet weights.

    Raises:
        OSError: the weights cannot be downloaded.
        ValueError: the head's layers have other sizes.
    """
    state = imagenet_weights(name)
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in state))  # features.0, …, classifier.1, …
    convolutions = [layer for layer in layers if layer.startswith("features.")]
    fc6, fc7, _ = [layer for layer in layers if layer.startswith("classifier.")]
    for theirs, ours in [*zip(convolutions, _convolutions(body), strict=True), (fc6, head.fc6), (fc7, head.fc7)]:
        weight = state[f"{theirs}.weight"]
        if not isinstance(ours, (nn.Conv2d, nn.Linear)) or ours.weight.shape != weight.shape:
            raise ValueError(
                f"the pretrained {name} has a layer of {tuple(weight.shape)} where this one differs; leave head.hidden,"
                " head.fc6_rank, head.fc7_rank and model.pool_size at 0, or set model.pretrained = false"
            )
        ours.load_state_dict({"weight": weight, "bias": state[f"{theirs}.bias"]})


def _convolutions(body: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in body.modules() if isinstance(layer, nn.Conv2d)]
