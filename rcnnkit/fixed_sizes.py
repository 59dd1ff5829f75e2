"""From scores to boxes in tensors whose sizes are known beforehand, so that no one has to ask the device for a size.

A GPU detects this way: it is given all work of a batch at once, and waited for at its end, for the numbers of
detections. Every row has as many places as it can need, and in a place that holds nothing the score is −∞. On a CPU
`rcnnkit.suppression`, which drops at once what scores too little, is faster; both give the same boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.ops.nms import HAS_CUDA, nms_sorted

NOTHING = -torch.inf


def are_wanted(tensor: Tensor) -> bool:
    """Whether detecting goes this way where this tensor lies: on a GPU, with rcnnkit's own operators."""
    return tensor.is_cuda and HAS_CUDA


def fill(rows: Sequence[Tensor], value: float = 0.0) -> Tensor:
    """(n, longest, …) of n tensors (length, …), the rest of each row filled with `value`."""
    longest = max(map(len, rows), default=0)
    return torch.stack([F.pad(row, (0, 0) * (row.ndim - 1) + (0, longest - len(row)), value=value) for row in rows])


def rows_of(boxes: Tensor, indices: Tensor) -> Tensor:
    """(B, n, 4): the rows of (B, N, 4) that (B, n) name."""
    return boxes.gather(1, indices[:, :, None].expand(-1, -1, 4))  # a number, which an exported file knows


def suppress(boxes: Tensor, scores: Tensor, nms_iou: float) -> Tensor:
    """(…, N): the scores of the boxes that stay, −∞ in the place of the others.

    Args:
        boxes: (…, N, 4) xyxy. Those of different rows do not suppress each other.
        scores: (…, N), higher is better; ties go to the earlier one.
        nms_iou: a box is dropped if a better one of its row overlaps it by more.
    """
    rivals, ranks = boxes.flatten(0, -3), scores.flatten(0, -2)
    order = ranks.argsort(dim=1, descending=True, stable=True)
    kept = nms_sorted(rows_of(rivals, order), (ranks != NOTHING).sum(1), nms_iou)
    kept = torch.zeros_like(kept).scatter(1, order, kept)
    return torch.where(kept, ranks, NOTHING).reshape(scores.shape)


def best(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The `most` best of each row (B, N), or all N of 0, best first, ties in their order; and their places."""
    values, places = scores.sort(dim=1, descending=True, stable=True)
    return values[:, : most or None], places[:, : most or None]
