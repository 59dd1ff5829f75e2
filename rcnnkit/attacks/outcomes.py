"""What became of the objects of attacked pictures: hidden, called something else, or invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcnnkit.boxes import iou
from rcnnkit.structures import Detections, Targets

SAME_PLACE = 0.5  # IoU from which a detection stands on an object


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Shares; of objects the first two, of detections the last. 0 where there are none."""

    vanished: float  # no detection of any class stands on it
    renamed: float  # only detections of other classes do
    invented: float  # stands on nothing


def outcomes(detections: Sequence[Detections], targets: Sequence[Targets], min_score: float) -> Outcomes:
    """Of the detections from `min_score` on, picture by picture. Crowd regions and difficult objects need not be found,
    and detections on them are not invented."""
    objects = vanished = renamed = detection_count = invented = 0
    for detected, target in zip(detections, targets, strict=True):
        confident = detected.above(min_score)
        on = iou(confident.boxes, target.boxes) >= SAME_PLACE  # (D, N)
        right = (on & (confident.labels[:, None] == target.labels)).any(dim=0)
        any_class = on.any(dim=0)
        counts = ~(target.crowd | target.difficult)
        objects += int(counts.sum())
        vanished += int((counts & ~any_class).sum())
        renamed += int((counts & any_class & ~right).sum())
        detection_count += len(confident)
        invented += int((~on.any(dim=1)).sum())
    return Outcomes(vanished / max(objects, 1), renamed / max(objects, 1), invented / max(detection_count, 1))
