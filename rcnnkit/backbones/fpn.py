"""Feature pyramid network (arXiv:1612.03144)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rcnnkit.backbones.backbone import Backbone
from rcnnkit.backbones.norms import Norm, norm_layer


class FPN(nn.Module):
    """A network's maps, lateral connections and a way back down: maps of one width at strides 4 to 64.

    P2 to P5 as in the paper, and P6, every second cell of P5, for the largest anchors (its footnote 2).
    `strides` and `channels` tell of all five.

    Args:
        body: a `Backbone` of four maps, strides 4 to 32.
        channels: of every map.
        norm: after each convolution; the paper has none, training from scratch wants one.
    """

    def __init__(self, body: Backbone, channels: int = 256, norm: Norm = "none") -> None:
        super().__init__()
        self.body = body
        layer = norm_layer(norm)
        bias = norm == "none"
        self.lateral = nn.ModuleList(
            Lateral(nn.Conv2d(c, channels, 1, bias=bias), layer(channels)) for c in body.channels
        )
        self.output = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=bias), layer(channels))
            for _ in body.channels
        )
        for module in [*self.lateral.modules(), *self.output.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.strides = [*body.strides, 2 * body.strides[-1]]
        self.channels = [channels] * len(self.strides)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → P2 … P6, (B, channels, H / stride, W / stride) each."""
        *maps, top = self.body(pixels)
        *laterals, first = self.lateral
        pyramid = [first(top)]
        for lateral, c in zip(reversed(laterals), reversed(maps), strict=True):
            pyramid.insert(0, lateral(c, F.interpolate(pyramid[0], size=c.shape[2:], mode="nearest")))
        pyramid = [output(p) for output, p in zip(self.output, pyramid, strict=True)]
        return [*pyramid, pyramid[-1][:, :, ::2, ::2]]


class Lateral(nn.Sequential):
    """A lateral connection, and the map from above that is added to it."""

    def forward(self, x: Tensor, above: Tensor | None = None) -> Tensor:
        x = super().forward(x)
        return x if above is None else x + above
