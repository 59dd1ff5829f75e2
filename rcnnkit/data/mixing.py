"""Pictures made of several: mosaic, mixup and copy-paste, with boxes.

Each changes one picture with the help of others, its partners, which are drawn from the picture's own seed. So what
becomes of a picture does not depend on what shares its batch, on processes, or on where a run was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch

from rcnnkit.boxes import area
from rcnnkit.structures import Array, Size, Targets

Sample = tuple[Array, Targets]  # a picture (H, W, 3) uint8 RGB, and its objects in its pixels
Read = Callable[[int], Sample]  # the picture of an index

VISIBLE = 0.1  # share of an object's box that must be left of it
COVERED = 0.3  # share of an object's box that pasted ones may cover
TRIES = 10  # places tried for a pasted object
GREY = 114  # where there is no picture (YOLOv5)


def mosaic(first: Sample, partners: list[Sample], rng: np.random.Generator) -> Sample:
    """Four pictures around a random point, in the size of the first (YOLOv4, arXiv:2004.10934, section 3.3).

    Each is shrunk or enlarged until it just covers its quarter, of which a random part is cut out. An object stays
    where a tenth of its box does.

    Args:
        partners: three of them.
    """
    height, width = first[0].shape[:2]
    y, x = round(height * rng.uniform(0.25, 0.75)), round(width * rng.uniform(0.25, 0.75))
    canvas = np.full((height, width, 3), GREY, dtype=np.uint8)
    parts = []
    quarters = [(0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width)]
    for (top, left, bottom, right), (picture, targets) in zip(quarters, [first, *partners], strict=True):
        size = bottom - top, right - left
        if 0 in size:
            continue
        old = picture.shape[:2]
        factor = max(size[0] / old[0], size[1] / old[1])
        new = max(size[0], round(old[0] * factor)), max(size[1], round(old[1] * factor))
        part_y, part_x = (int(rng.integers(n - m + 1)) for n, m in zip(new, size, strict=True))
        canvas[top:bottom, left:right] = _resized(picture, new)[part_y : part_y + size[0], part_x : part_x + size[1]]
        shift = torch.tensor([left - part_x, top - part_y] * 2)
        boxes = _scaled(targets.boxes, (old[0], old[1]), new) + shift
        parts.append(_cut(targets, boxes, (top, left, bottom, right)))
    return canvas, join(parts)


def mixup(first: Sample, partner: Sample, rng: np.random.Generator) -> Sample:
    """Both pictures, one shining through the other, with the objects of both (arXiv:1902.04103, section 3.1).

    The partner is resized to fit into the first one's size, and lies in its upper left corner. Their shares are drawn
    from Beta(32, 32), and so are about equal.
    """
    share = rng.beta(32, 32)
    picture, targets = first
    old = partner[0].shape[:2]
    factor = min(picture.shape[0] / old[0], picture.shape[1] / old[1])
    new = max(1, int(old[0] * factor)), max(1, int(old[1] * factor))
    mixed = picture.copy()
    part = mixed[: new[0], : new[1]]
    part[:] = np.rint(share * part + (1 - share) * _resized(partner[0], new))
    boxes = _scaled(partner[1].boxes, (old[0], old[1]), new)
    return mixed, join([targets, _moved(partner[1], boxes)])


def copy_paste(first: Sample, partner: Sample, rng: np.random.Generator) -> Sample:
    """Objects of the partner, cut out along their boxes and pasted at random places (arXiv:1708.01642).

    Each is pasted with probability 1/2 if it is no crowd and fits, at the first of ten random places where it leaves
    0.7 of the box of every object visible, those pasted before included.
    """
    picture, targets = first[0].copy(), first[1]
    size = picture.shape[:2]
    pasted = np.zeros(size, dtype=np.int32)  # which of the pasted objects is seen at each pixel, from 1 on
    own = [0] * len(targets)  # likewise of each object
    for number in range(len(partner[1])):
        instance = partner[1][torch.tensor([number])]
        paste = rng.random() < 0.5
        x1, y1, x2, y2 = instance.boxes[0].tolist()
        left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
        patch = partner[0][top : int(np.ceil(y2)), left : int(np.ceil(x2))]
        height, width = patch.shape[:2]
        if not paste or instance.crowd.any() or 0 in (height, width) or height > size[0] or width > size[1]:
            continue
        for _ in range(TRIES):
            y, x = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
            after = pasted.copy()
            after[y : y + height, x : x + width] = number + 1
            boxes = zip(targets.boxes.tolist(), own, strict=True)
            if not any((after[_pixels(box)] > level).mean() > COVERED for box, level in boxes):
                picture[y : y + height, x : x + width] = patch
                pasted = after
                moved = instance.boxes + torch.tensor([x - left, y - top] * 2)
                targets = join([targets, _moved(instance, moved)])
                own.append(number + 1)
                break
    return picture, targets


def mix(first: Sample, seed: int, shares: tuple[float, float, float], pictures: int, read: Read) -> Sample:
    """A picture after mosaic, copy-paste and mixup, each with its probability.

    Args:
        seed: of the picture; it decides on everything, the partners too.
        shares: the probabilities of mosaic, mixup and copy-paste.
        pictures: how many there are to draw partners from.
        read: gives them.

    Raises what `read` raises.
    """
    rng = np.random.default_rng((seed, 1))  # another stream than the augmentation's
    of_mosaic, of_mixup, of_copy_paste = (rng.random() < share for share in shares)

    def partner() -> Sample:
        return read(int(rng.integers(pictures)))

    if of_mosaic:
        first = mosaic(first, [partner() for _ in range(3)], rng)
    if of_copy_paste:
        first = copy_paste(first, partner(), rng)
    if of_mixup:
        first = mixup(first, partner(), rng)
    return first


def join(parts: list[Targets]) -> Targets:
    """The objects of several, in order."""
    names = ("boxes", "labels", "difficult", "truncated", "crowd", "phrases")
    return Targets(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _pixels(box: list[float]) -> tuple[slice, slice]:
    """The rows and columns that a box touches, one at least."""
    x1, y1, x2, y2 = box
    return slice(int(y1), max(int(y1) + 1, math.ceil(y2))), slice(int(x1), max(int(x1) + 1, math.ceil(x2)))


def _resized(picture: Array, size: Size) -> Array:
    """To (height, width); a picture that shrinks is averaged."""
    shrinks = size[0] < picture.shape[0]
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _scaled(boxes: torch.Tensor, old: Size, new: Size) -> torch.Tensor:
    return boxes * torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)


def _clipped(boxes: torch.Tensor, window: tuple[int, int, int, int]) -> torch.Tensor:
    top, left, bottom, right = window
    low, high = torch.tensor([left, top] * 2).float(), torch.tensor([right, bottom] * 2).float()
    return boxes.maximum(low).minimum(high)


def _cut(targets: Targets, boxes: torch.Tensor, window: tuple[int, int, int, int]) -> Targets:
    """The objects at `boxes` of which enough lies in the window (top, left, bottom, right), cut to it."""
    inside = _clipped(boxes, window)
    left = (inside[:, 2:] - inside[:, :2]).amin(dim=1) > 0
    keep = left & (area(inside) >= VISIBLE * area(boxes))
    return _moved(targets[keep], inside[keep])


def _moved(targets: Targets, boxes: torch.Tensor) -> Targets:
    """The same objects at other places; areas are the boxes' own."""
    return replace(targets, boxes=boxes, areas=torch.zeros(0))
