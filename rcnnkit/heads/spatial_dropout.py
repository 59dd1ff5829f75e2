"""Which cells of pooled regions to hide: at random, by trying windows, or as a network has learnt (A-Fast-RCNN, Wang,
Shrivastava and Gupta 2017, arXiv:1704.03414)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 8  # cells; masks of larger regions are of half their side, as of the 7 × 7 for which the paper has them
CONVS = 4  # before the last one, as in the released code
OF_CELLS = 49  # that `adversary.cells` and `adversary.candidates` are stated for

Probability = Callable[[Tensor], Tensor]  # regions (R, C, s, s) → (R,), that of each one's class, without gradient


def mask_side(size: int) -> int:
    """Sides of the masks of regions with sides of `size` cells."""
    return size // 2 if size > LARGEST and size % 2 == 0 else size


def halve(size: int) -> nn.Module:
    """From regions with sides of `size` cells to those of their masks."""
    return nn.Identity() if mask_side(size) == size else nn.AvgPool2d(2)


def scaled(cells: int, side: int) -> int:
    """As large a share of a mask as so many cells are of 7 × 7; at least one."""
    return max(1, round(cells * side**2 / OF_CELLS))


def hide(regions: Tensor, hidden: Tensor) -> Tensor:
    """Regions (R, C, s, s) with zeros in all channels of the `hidden` cells, (R or 1, m, m) bool; m divides s."""
    times = regions.shape[2] // hidden.shape[1]
    return regions * ~hidden.repeat_interleave(times, 1).repeat_interleave(times, 2)[:, None]


def random_cells(count: int, side: int, cells: int, device: torch.device) -> Tensor:
    """(count, side, side) bool: so many cells of each mask, any of them."""
    chosen = torch.rand(count, side**2, device=device).topk(cells).indices
    return _mask(chosen, side)


def likely_cells(heat: Tensor, cells: int, candidates: int) -> Tensor:
    """(R, m, m) bool: so many cells of each mask, any of the `candidates` where `heat` (R, m, m) is greatest."""
    places = heat.flatten(1).topk(candidates).indices
    drawn = torch.rand(places.shape, device=heat.device).topk(cells).indices
    return _mask(places.gather(1, drawn), heat.shape[1])


def _mask(chosen: Tensor, side: int) -> Tensor:
    empty = torch.zeros(len(chosen), side**2, dtype=torch.bool, device=chosen.device)
    return empty.scatter_(1, chosen, True).unflatten(1, (side, side))


def windows(side: int, device: torch.device) -> Tensor:
    """(W, side, side) bool: each window of a third of the sides, one beside the other; the last ones are moved in, as
    in the released code. 16 windows of 2 × 2 in 7 × 7."""
    width = max(1, round(side / 3))
    starts = sorted({min(start, side - width) for start in range(0, side, width)})
    masks = torch.zeros(len(starts) ** 2, side, side, dtype=torch.bool, device=device)
    corners = [(y, x) for y in starts for x in starts]
    for window, (y, x) in zip(masks, corners, strict=True):
        window[y : y + width, x : x + width] = True
    return masks


@torch.no_grad()
def hardest_windows(regions: Tensor, probability: Probability) -> Tensor:
    """(R, m, m) bool: of each region the window without which its class is least probable; of equal ones the first."""
    tried = windows(mask_side(regions.shape[2]), regions.device)
    scores = torch.stack([probability(hide(regions, window[None])) for window in tried])  # (W, R)
    return tried[scores.argmin(0)]


class SpatialDropout(nn.Module):
    """Regions (R, C, s, s) → how much hiding each cell would hurt, logits (R, m, m) float32 (the paper's ASDN).

    Five 3×3 convolutions, as in the released code; the paper has fully connected layers. It gives no gradient to the
    regions.

    Args:
        channels, size: C and s.
        hidden: filters of all convolutions but the last.
    """

    def __init__(self, channels: int, size: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [halve(size)]
        for before in [channels] + [hidden] * (CONVS - 1):
            layers += [nn.Conv2d(before, hidden, 3, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(hidden, 1, 3, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # they have one

    def forward(self, regions: Tensor) -> Tensor:
        heat: Tensor = self.layers(regions.detach())
        return heat[:, 0].float()


def loss_of(heat: Tensor, hidden: Tensor) -> Tensor:
    """(R,): binary cross-entropy of logits (R, m, m) beside what was to be hidden, the mean over the cells of each."""
    return F.binary_cross_entropy_with_logits(heat, hidden.float(), reduction="none").flatten(1).mean(1)
