"""Whether two sets of detections are the same, but for what rounding decides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rcnnkit.boxes import iou
from rcnnkit.structures import Detections

PIXELS, SCORES = 1e-2, 1e-4
NEAR = 1e-4  # of a score or an IoU to its threshold, within which rounding decides


@dataclass(frozen=True, slots=True)
class Limits:
    """What decides which detections stay."""

    threshold: float
    nms_iou: float
    most: int  # of a picture; 0: all


def difference(one: Detections, other: Detections, limits: Limits) -> str:
    """How two answers differ; "" where they agree.

    Each detection has its partner of the same class, at most `PIXELS` and `SCORES` away; order within `SCORES` does not
    count. One may lack its partner where its score is at the threshold, or at the last of as many as there may be, or
    where an IoU at the threshold of the suppression decided about it.
    """
    # A score of 100 and a box in 1,000 pixels have as many digits as one of 1.
    pixels = max(PIXELS, 1e-5 * _largest(one.boxes, other.boxes))
    scores = max(SCORES, 1e-4 * _largest(one.scores, other.scores))
    if not len(one) and not len(other):
        return ""
    if len(one) == len(other) and one.labels.equal(other.labels):
        off = [(own - partner).abs().max() for own, partner in ((one.boxes, other.boxes), (one.scores, other.scores))]
        if off[0] <= pixels and off[1] <= scores:
            return ""
    near = (one.boxes[:, None] - other.boxes[None]).abs().amax(-1) <= pixels
    near &= (one.scores[:, None] - other.scores[None]).abs() <= scores
    near &= one.labels[:, None] == other.labels[None]
    free = torch.ones(len(other), dtype=torch.bool)
    alone = []
    for i, row in enumerate(near):
        if len(partners := torch.where(row & free)[0]):
            free[partners[0]] = False
        else:
            alone.append(i)
    for own, rows, partner in (
        (one, torch.tensor(alone, dtype=torch.int64), other),
        (other, torch.where(free)[0], one),
    ):
        for row in rows.tolist():
            if not _undecided(own, row, partner, limits):
                name, score, box = own[row]
                place = ", ".join(f"{side:.2f}" for side in box)
                whose = "the detector" if own is one else "the file"
                return (
                    f"{len(one)} and {len(other)} detections; {name} with {score:.4f} at {place} is found by {whose}"
                    " alone"
                )
    return ""


def _undecided(own: Detections, row: int, other: Detections, limits: Limits) -> bool:
    """Whether rounding decided about one that the other answer lacks."""
    score = own.scores[row]
    if abs(score - limits.threshold) <= NEAR:
        return True
    if limits.most and len(other) >= limits.most and score <= other.scores[-1] + NEAR:
        return True
    for answer in (own, other):
        same = answer.labels == own.labels[row]
        if ((iou(own.boxes[row][None], answer.boxes[same]) - limits.nms_iou).abs() <= NEAR).any():
            return True
    return False


def _largest(*values: Tensor) -> float:
    return max((float(value.abs().max()) for value in values if value.numel()), default=0.0)
