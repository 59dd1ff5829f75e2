"""From scores to boxes: how the RPN, the box head and R-CNN choose among all that they have scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rcnnkit.boxes import UNWEIGHTED, clip, decode, is_large
from rcnnkit.ops import batched_nms
from rcnnkit.structures import Size


class Kept(NamedTuple):
    """The boxes that suppression leaves of one picture, best score first, in the frame of the network's pixels."""

    boxes: Tensor  # (N, 4) xyxy
    scores: Tensor  # (N,)
    groups: Tensor  # (N,) int64: the class of each box, or the map that it comes from


def suppress(
    boxes: Tensor,
    deltas: Tensor | None,
    scores: Tensor,
    groups: Tensor,
    size: Size,
    *,
    min_side: float,
    nms_iou: float,
    weights: Sequence[float] = UNWEIGHTED,
    threshold: float | None = None,
    most: int = 0,
) -> Kept:
    """The best boxes of one picture: threshold → decode → clip → drop small ones → NMS → the best `most`.

    The candidates have any shape S, such as (R,) or (R, K). The boxes that are left have the gradient of their deltas.

    Args:
        boxes: (…, 4) xyxy where they start from, in the frame of the network's pixels; broadcast to (*S, 4).
        deltas: (…, 4) from there to the object, broadcast likewise; None leaves the boxes where they are.
        scores: (*S), higher is better.
        groups: int64, broadcast to S. Boxes of different groups do not suppress each other.
        size: (height, width) of the picture, to which boxes are cut.
        min_side: pixels; boxes with a smaller side are dropped.
        nms_iou: a box is dropped if a better one of its group overlaps it by more.
        weights: of the deltas, see `rcnnkit.boxes.decode`.
        threshold: candidates that do not score more are dropped, NaN among them; None keeps all.
        most: boxes at the end; 0: all.
    """
    if threshold is not None:
        above = torch.where(scores > threshold)
        boxes, groups = boxes.expand(*scores.shape, 4)[above], groups.expand_as(scores)[above]
        deltas = None if deltas is None else deltas.expand(*scores.shape, 4)[above]
        scores = scores[above]
    boxes = clip(boxes if deltas is None else decode(deltas, boxes, weights), size)
    large = is_large(boxes, min_side)
    boxes, scores, groups = boxes[large], scores[large], groups[large]
    kept = batched_nms(boxes.detach(), scores.detach(), groups, nms_iou)[: most or None]
    return Kept(boxes[kept], scores[kept], groups[kept])
