"""Convolutions before the fully connected layer of a region (Group Normalization, arXiv:1803.08494, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn

from rcnnkit.backbones.norms import Norm, norm_layer


class ConvsFC(nn.Module):
    """3×3 convolutions, each with norm and ReLU, then fc6: (R, C, s, s) → (R, hidden).

    The head of torchvision's second Faster R-CNN, which has four of them, and of detectron2's with group norm.

    Args:
        channels, size: C and s.
        convs: how many convolutions, each of `channels`.
        hidden: width of fc6.
        norm: after each convolution.
    """

    def __init__(self, channels: int, size: int, convs: int, hidden: int, norm: Norm) -> None:
        super().__init__()
        layer = norm_layer(norm)
        self.convs = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none"),
                    layer(channels),
                    nn.ReLU(inplace=True),
                )
                for _ in range(convs)
            )
        )
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.fc6 = nn.Linear(channels * size**2, hidden)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, regions: Tensor) -> Tensor:
        return self.relu(self.fc6(self.convs(regions).flatten(1)))
