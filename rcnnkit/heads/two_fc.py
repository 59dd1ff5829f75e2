"""The fully connected layers of a region (Fast R-CNN, arXiv:1504.08083, sections 2.2 and 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoFC(nn.Module):
    """fc6 and fc7 with ReLU: (R, C, s, s) → (R, hidden).

    Args:
        channels, size: C and s.
        hidden: width of both layers.
        dropout: share of the values of each that training leaves out: 0.5 in AlexNet and VGG.
        fc6_rank, fc7_rank: a layer of rank t is two, without anything between: t values, then `hidden`.
            0: one layer.
    """

    def __init__(
        self, channels: int, size: int, hidden: int, dropout: float = 0.0, fc6_rank: int = 0, fc7_rank: int = 0
    ) -> None:
        super().__init__()
        self.fc6 = linear(channels * size**2, hidden, fc6_rank)
        self.fc7 = linear(hidden, hidden, fc7_rank)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)

    def forward(self, regions: Tensor) -> Tensor:
        hidden = self.dropout(self.relu(self.fc6(regions.flatten(1))))
        return self.dropout(self.relu(self.fc7(hidden)))


def linear(inputs: int, outputs: int, rank: int = 0) -> nn.Module:
    """A fully connected layer, or the two that `truncated` leaves of it."""
    if not rank:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


@torch.no_grad()
def truncated(layer: nn.Linear, rank: int) -> nn.Module:
    """Two layers in place of one, W ≈ U Σ Vᵗ: the first is Σ Vᵗ without a bias, the second U with the layer's own.

    Of all pairs that pass `rank` values on, they are the nearest to W (Fast R-CNN 3.1, equation 5).
    """
    outputs, inputs = layer.weight.shape
    u, s, vt = torch.linalg.svd(layer.weight.float(), full_matrices=False)
    pair = linear(inputs, outputs, rank)
    pair.load_state_dict({"0.weight": s[:rank, None] * vt[:rank], "1.weight": u[:, :rank], "1.bias": layer.bias})
    return pair
