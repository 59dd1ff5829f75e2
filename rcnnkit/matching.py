"""Which object does a box stand for, and which boxes are learnt from (Faster R-CNN 3.1.2, Fast R-CNN 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnnkit.boxes import covered, iou
from rcnnkit.ops.best_overlaps import best_overlaps
from rcnnkit.structures import Targets

BACKGROUND = -1
IGNORED = -2
# Boxes this far inside a crowd region are no background (py-faster-rcnn's value).
CROWD_OVERLAP = 0.7
Generators = torch.Generator | Sequence[torch.Generator] | None  # one that draws for all pictures, or one for each


def match(
    boxes: Tensor,
    targets: Targets,
    foreground_iou: float,
    background_iou: float,
    *,
    background_low: float = 0.0,
    best_too: bool = False,
) -> Tensor:
    """The object each box is matched to.

    Args:
        boxes: (N, 4) xyxy.
        targets: M objects in the same frame; crowd regions match nothing.
        foreground_iou: a box whose best IoU is at least this takes that object.
        background_iou: one below this is background; in between it is ignored.
        background_low: … unless its best IoU is below this: then it is ignored too. Fast R-CNN (2.3) takes 0.1, as
            what overlaps an object a little is harder; a picture without objects then has no background.
        best_too: every box that ties the best IoU for some object is foreground as well,
            with its own best object (RPN only).

    Returns:
        (N,) int64: an index into `targets`, or BACKGROUND, or IGNORED.

    Source: Faster R-CNN 3.1.2; the paper says "higher than 0.7", all code takes ≥.
    """
    crowd = targets.crowd
    if len(boxes) == 0 or bool(crowd.all()):  # the latter also where there are no objects
        matched = torch.full((len(boxes),), IGNORED if background_low else BACKGROUND, device=boxes.device)
    else:
        objects = torch.where(~crowd)[0]
        best, index, ties = best_overlaps(boxes, targets.boxes[objects], best_too)
        matched = torch.where(best >= foreground_iou, objects[index], IGNORED)
        matched[(best < background_iou) & (best >= background_low)] = BACKGROUND
        matched = torch.where(ties, objects[index], matched)
    if crowd.any():
        inside = (covered(boxes, targets.boxes[crowd]) > CROWD_OVERLAP).any(dim=1)
        matched[inside & (matched == BACKGROUND)] = IGNORED
    return matched


def class_overlaps(boxes: Tensor, targets: Targets, num_classes: int) -> Tensor:
    """The greatest IoU of each box with an object of each class.

    Args:
        boxes: (N, 4) xyxy.
        targets: M objects in the same frame. A box far inside a crowd region of a class counts as an object of it.

    Returns:
        (N, num_classes) in [0, 1]; 0 where there is no object of the class.
    """
    overlaps = iou(boxes, targets.boxes)
    if targets.crowd.any():
        inside = covered(boxes, targets.boxes[targets.crowd]) > CROWD_OVERLAP
        overlaps[:, targets.crowd] = inside.to(overlaps.dtype)
    labels = targets.labels.expand(len(boxes), -1)
    return overlaps.new_zeros(len(boxes), num_classes).scatter_reduce(1, labels, overlaps, "amax")


def sample(matched: Tensor, count: int, foreground_share: float, generator: torch.Generator | None = None) -> Tensor:
    """Indices of at most `count` boxes, in ascending order, at most that share of them foreground.

    Too little foreground is made up for with background; too little of both gives fewer than `count`.

    Args:
        matched: (N,) from `match`.
        generator: draws on its own device; the same one gives the same sample on a CPU and a GPU.
    """
    foreground = torch.where(matched >= 0)[0]
    background = torch.where(matched == BACKGROUND)[0]
    wanted = min(len(foreground), int(count * foreground_share))
    chosen = torch.cat([_some(foreground, wanted, generator), _some(background, count - wanted, generator)])
    return chosen.sort().values


def each_generator(generators: Generators, pictures: int) -> Sequence[torch.Generator | None]:
    """What draws for each of so many pictures.

    Where each has its own, a picture's samples do not depend on which others share its batch.
    """
    return generators if isinstance(generators, Sequence) else [generators] * pictures


def _some(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if len(indices) <= count:
        return indices
    device = generator.device if generator is not None else indices.device
    order = torch.randperm(len(indices), generator=generator, device=device)[:count]
    return indices[order.to(indices.device)]
