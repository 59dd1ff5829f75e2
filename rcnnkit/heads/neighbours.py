"""What a region sees of the other regions of its picture, to speak of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcnnkit.boxes import iou
from rcnnkit.structures import Proposals

PLACE = 6  # numbers that say where one box is from another
GEOMETRY = 64  # width of the layer that reads them
SAME = 0.5  # IoU above which two boxes are of one object


class Neighbours(nn.Module):
    """Each region looks at the others of its picture, and chooses by where they are.

    A sum over the others, with weights of a softmax that may also choose none of them: of what is known of a region,
    together with where it is from here. A region that may be no object counts less, by its score. Boxes that overlap so
    much that they may be of the same object are not looked at. The papers have no such input.

    Args:
        width: of what is known of a region.
        hidden: of what is seen of the others.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.geometry = nn.Sequential(nn.Linear(PLACE, GEOMETRY), nn.ReLU(), nn.Linear(GEOMETRY, GEOMETRY), nn.ReLU())
        self.logit = nn.Linear(GEOMETRY, 1)
        self.place = nn.Linear(GEOMETRY, hidden)
        self.known = nn.Linear(width, hidden)

    def forward(self, features: Tensor, proposals: Sequence[Proposals]) -> Tensor:
        """(R, hidden) float32: what each region sees of the others of its picture; 0 where there is none.

        Args:
            features: (R, width) float32, what is known of each region.
            proposals: of each picture, R in all; the scores are the probabilities of being an object.
        """
        known = self.known(features).split([len(each) for each in proposals])
        return torch.cat([self._of_picture(*pair) for pair in zip(known, proposals, strict=True)])

    def _of_picture(self, known: Tensor, proposals: Proposals) -> Tensor:
        where = self.geometry(places(proposals.boxes))  # (N, N, 64): from each region, of each other one
        logits = self.logit(where)[..., 0] + proposals.scores.float().clamp(1e-6, 1).log()
        logits = logits.masked_fill(iou(proposals.boxes, proposals.boxes) > SAME, -torch.inf)
        none = logits.new_zeros(len(logits), 1)
        weights = torch.cat([none, logits], dim=1).softmax(dim=1)[:, 1:]  # (N, N)
        seen = (known + self.place(where)).relu()  # (N, N, hidden)
        return torch.einsum("ij,ijh->ih", weights, seen)


def places(boxes: Tensor) -> Tensor:
    """(N, N, 6): from each of (N, 4) boxes, where each of them is: centre and size as goals of box regression are
    stated (arXiv:1311.2524, appendix C), and the gap between the two along each axis, in sides of the first."""
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    away = centres[None] - centres[:, None]  # (N, N, 2)
    gaps = (away.abs() - (sides[None] + sides[:, None]) / 2).clamp(min=0)
    return torch.cat([away / sides[:, None], (sides[None] / sides[:, None]).log(), gaps / sides[:, None]], dim=2)
