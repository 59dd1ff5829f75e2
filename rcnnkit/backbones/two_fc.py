"""The fully connected layers of a region (Fast R-CNN, arXiv:1504.08083, sections 2.2 and 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcnnkit.settings import Count, Section


class RegionSettings(Section):
    """The settings of the layers that make one vector of each region."""

    hidden: Count = 0
    """Width of the fully connected layers fc6 and fc7. 0: 1024 with a pyramid (FPN 4.2), otherwise the network's
    own."""
    convs: Count = 0
    """With a pyramid: how many 3×3 convolutions stand before fc6, in place of fc7. torchvision's second Faster R-CNN
    has 4. 0: fc6 and fc7."""
    fc6_rank: Count = 0
    """Rank of fc6's weights after truncated SVD, which makes two thin layers of it (Fast R-CNN 3.1). `rcnnkit compress`
    sets it. 0: fc6 stays one layer."""
    fc7_rank: Count = 0
    """Rank of fc7's weights after truncated SVD, as `fc6_rank`."""


class TwoFC(nn.Module):
    """fc6 and fc7 with ReLU: (R, C, s, s) → (R, width of fc7).

    Args:
        channels, size: C and s.
        hidden: width of both layers, or of each.
        dropout: share of the values of each that training leaves out: 0.5 in AlexNet and VGG.
        fc6_rank, fc7_rank: a layer of rank t is two, without anything between: t values, then its width.
            0: one layer.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        hidden: int | tuple[int, int],
        dropout: float = 0.0,
        fc6_rank: int = 0,
        fc7_rank: int = 0,
    ) -> None:
        super().__init__()
        self.widths = (hidden, hidden) if isinstance(hidden, int) else hidden
        self.fc6 = linear(channels * size**2, self.widths[0], fc6_rank)
        self.fc7 = linear(*self.widths, fc7_rank)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)

    def forward(self, regions: Tensor) -> Tensor:
        hidden = self.dropout(self.relu(self.fc6(regions.flatten(1))))
        return self.dropout(self.relu(self.fc7(hidden)))


def linear(inputs: int, outputs: int, rank: int = 0) -> nn.Linear | nn.Sequential:
    """A fully connected layer, or the two that `truncated` leaves of it."""
    if not rank:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


@torch.no_grad()
def truncated(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Two layers in place of one, W ≈ U Σ Vᵗ: the first is Σ Vᵗ without a bias, the second U with the layer's own.

    Of all pairs that pass `rank` values on, they are the nearest to W (Fast R-CNN 3.1, equation 5).
    """
    outputs, inputs = layer.weight.shape
    w = layer.weight.double()
    # U from W Wᵗ = U Σ² Uᵗ, and Σ Vᵗ = Uᵗ W: for VGG16's fc6 a fraction of the time of a whole SVD.
    u = torch.linalg.eigh(w @ w.T).eigenvectors.flip(1)[:, :rank]
    pair = linear(inputs, outputs, rank)
    assert isinstance(pair, nn.Sequential)
    pair.load_state_dict({"0.weight": u.T @ w, "1.weight": u, "1.bias": layer.bias})
    return pair
