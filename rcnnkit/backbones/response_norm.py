"""Local response normalisation: across channels (AlexNet, NIPS 2012, section 3.3) and within one (Caffe's ZFNet).

α is divided by the number of summands, as in Caffe and torch. torch's own layer takes no half precision on CPUs and
more than twice the time; squares here are float32 in any case, as those of float16 would become infinite from 256 on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AcrossChannelsNorm(nn.LocalResponseNorm):
    """x / (k + α · mean of x² over `size` channels around it)^β; channels that are not there count as 0."""

    def forward(self, x: Tensor) -> Tensor:
        wide, channels, side = _wide(x), x.shape[1], self.size // 2
        squares = F.pad(wide.square(), (0, 0, 0, 0, side, side))
        energy = squares[:, :channels]
        for i in range(1, self.size):
            energy = energy + squares[:, i : i + channels]
        return (wide * (self.k + self.alpha / self.size * energy).pow(-self.beta)).to(x.dtype)


class WithinChannelNorm(nn.Module):
    """x / (1 + α · mean of x² over `size` × `size` cells around it)^β; beyond the edge x is 0, and counts."""

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        wide = _wide(x)
        energy = F.avg_pool2d(wide.square(), self.size, stride=1, padding=self.size // 2)
        return (wide * (1 + self.alpha * energy).pow(-self.beta)).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
