"""Which object each box overlaps most: what matching asks of every anchor of a picture."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rcnnkit.boxes import iou
from rcnnkit.ops.library import load

load()
PAIRS = 1 << 24  # of boxes and objects whose overlaps are in memory at a time: 64 MB for each of a few arrays


def best_overlaps(boxes: Tensor, objects: Tensor, with_ties: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The greatest IoU of each box with an object, equal to that of `boxes.iou` to the last bit.

    Args:
        boxes: (N, 4) xyxy, any frame.
        objects: (M, 4) in the same frame; at least one.
        with_ties: find ties as well.

    Returns:
        The greatest IoU (N,); the object that has it (N,) int64; and which boxes have the greatest IoU of some object
        that any box overlaps (N,), all false without `with_ties`.
    """
    if boxes.device.type == "cpu" and boxes.dtype == objects.dtype == torch.float32:
        best: tuple[Tensor, Tensor, Tensor] = torch.ops.rcnnkit.best_overlaps(boxes, objects, with_ties)
        return best
    # A part of the boxes at a time: all pairs of a large picture's anchors and 1,500 objects are several GB.
    parts = boxes.split(max(1, PAIRS // len(objects)))
    single_part = [iou(boxes, objects)] if len(parts) == 1 else []

    def overlaps() -> Iterable[Tensor]:
        return single_part or (iou(part, objects) for part in parts)

    maxima = [(*part.max(dim=1), part.amax(dim=0)) for part in overlaps()]
    values, index = torch.cat([value for value, _, _ in maxima]), torch.cat([row for _, row, _ in maxima])
    if not with_ties:
        return values, index, torch.zeros_like(index, dtype=torch.bool)
    of_object = torch.stack([most for _, _, most in maxima]).amax(dim=0)
    ties = [((part == of_object) & (of_object > 0)).any(dim=1) for part in overlaps()]
    return values, index, torch.cat(ties)
