"""The parts of a large picture that a network looks at: where tiles lie, and what of the objects is in one.

Detecting and training share this file. Parts are (x1, y1, x2, y2) in whole pixels of the picture, as boxes are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from rcnnkit.boxes import area, covered
from rcnnkit.settings import Count, Factor, PositiveShare, Section
from rcnnkit.structures import Array, Proposals, Size, Targets

Part = tuple[int, int, int, int]

# An object of which a tile shows less is neither learnt there nor taken for background: which part of it is seen may
# not tell what it is, and a tile beside it shows more. Proposals follow the same rule.
VISIBLE = 0.5
AROUND = 0.5  # of the training tiles lie around an object, the others anywhere, as there is background everywhere


class View(NamedTuple):
    """One look at a picture."""

    part: Part
    mirrored: bool  # left to right
    factor: float  # times the usual size of the network's input


class ViewSettings(Section):
    """In which parts, and how often, a picture is looked at."""

    tile: Count = 0
    """Sides of square tiles, pixels of the picture. A picture that is larger is looked at tile by tile, each of which
    is resized as a picture is, and trained on in tiles too. 0: every picture as a whole."""
    tile_overlap: Count = 128
    """Pixels that a tile shares with the next one, at least. An object that is no larger is whole in some tile."""
    tile_whole: bool = False
    """Detect in the picture as a whole too, beside its tiles, for objects larger than a tile."""
    test_flip: bool = False
    """Detect in each picture or tile mirrored, left to right, too, which takes twice the time."""
    test_scales: tuple[Factor, ...] = ()
    """Detect in each picture or tile several times, its sides as the network sees them multiplied by each of these.
    Empty: once, as in training."""
    merge: Literal["iou", "inside"] = "iou"
    """What of two detections from different tiles, mirrorings or scales is compared with `merge_threshold`. iou: their
    IoU; where a tile cuts one of them, that of the parts that both tiles show. inside: their intersection as a share of
    the smaller box."""
    merge_threshold: PositiveShare = 0.5
    """Detections of one class from different tiles, mirrorings or scales are of one object from this value on."""

    @model_validator(mode="after")
    def _tiles_go_on(self) -> Self:
        if self.tile and self.tile_overlap >= self.tile:
            raise ValueError(
                f"tile_overlap = {self.tile_overlap} is not less than tile = {self.tile}, so the next tile would be no"
                f" further; set tile_overlap to {self.tile // 5} or so"
            )
        return self

    @property
    def has_views(self) -> bool:
        """Whether a picture may be looked at more than once."""
        return bool(self.tile or self.test_flip or self.test_scales)

    def once(self) -> Self:
        """The same, but every picture is looked at once, as a whole."""
        names = ("tile", "tile_whole", "test_flip", "test_scales")
        return self.model_copy(update={name: type(self).model_fields[name].default for name in names})

    def looks_once(self, size: Size) -> bool:
        """Whether a picture of `size` is looked at once, as a whole."""
        return self.part_size(size) == size and not self.test_flip and not self.test_scales

    def part_size(self, size: Size) -> Size:
        """(height, width) of what the network is given of a picture of `size` at a time."""
        return (min(size[0], self.tile), min(size[1], self.tile)) if self.tile else size

    def parts(self, size: Size) -> list[Part]:
        """The tiles of a picture of `size`, row by row; the whole picture where it is no larger than one.

        All have the same size. They are spread evenly, so that neighbours share `tile_overlap` pixels or more.
        """
        height, width = self.part_size(size)
        rows, columns = (
            _starts(whole, part, self.tile_overlap) for whole, part in zip(size, (height, width), strict=True)
        )
        return [(x, y, x + width, y + height) for y in rows for x in columns]

    def parts_of_each(self, sizes: Array) -> Array:
        """(P,) int64: how many tiles each picture has, of P heights and widths (P, 2)."""
        if not self.tile:
            return np.ones(len(sizes), np.int64)
        beyond = np.maximum(0, sizes.astype(np.int64) - self.tile)
        return (1 + -(-beyond // (self.tile - self.tile_overlap))).prod(axis=1)

    def views(self, size: Size) -> Iterator[list[View]]:
        """Every look at a picture of `size`; those of a list show parts of one size, in as many pixels each."""
        parts, whole = self.parts(size), (0, 0, size[1], size[0])
        groups = [parts] if parts == [whole] or not self.tile_whole else [parts, [whole]]
        for group in groups:
            for factor in self.test_scales or (1.0,):
                yield [View(part, flip, factor) for part in group for flip in ((False, True)[: 1 + self.test_flip])]


def _starts(length: int, part: int, overlap: int) -> list[int]:
    if length <= part:
        return [0]
    steps = math.ceil((length - part) / (part - overlap))
    return [number * (length - part) // steps for number in range(steps + 1)]


def training_part(settings: ViewSettings, size: Size, boxes: Tensor, rng: np.random.Generator) -> Part:
    """A random tile of a picture of `size`, half of the time one with a random object, all of it if it fits.

    Args:
        boxes: (N, 4) of the objects that are learnt from.
    """
    height, width = settings.part_size(size)
    sides = np.array([width, height])
    room = np.array([size[1] - width, size[0] - height])
    low, high = np.zeros(2, np.int64), room
    if len(boxes) and rng.random() < AROUND:
        box = boxes[int(rng.integers(len(boxes)))].numpy()
        ends = np.stack([np.ceil(box[2:]) - sides, np.floor(box[:2])])  # of a larger object, a part is seen
        low, high = (np.clip(each, 0, room).astype(np.int64) for each in (ends.min(axis=0), ends.max(axis=0)))
    x, y = rng.integers(low, high + 1).tolist()
    return x, y, x + width, y + height


def targets_in(targets: Targets, part: Part) -> Targets:
    """The objects in a part of their picture, cut to it and in its frame.

    Those of which less than `VISIBLE` is left are crowds: neither objects nor background. Areas are the boxes' own.
    """
    boxes, share = _cut(targets.boxes, part)
    truncated, crowd = targets.truncated | (share < 1), targets.crowd | (share < VISIBLE)
    return Targets(boxes, targets.labels, targets.difficult, truncated, crowd)[share > 0]


def fullest_tile(boxes: Tensor, size: Size, settings: ViewSettings) -> int:
    """The most of the objects (N, 4) of a picture of `size` that one of its tiles shows, not mostly cut off."""
    parts = torch.tensor(settings.parts(size), dtype=boxes.dtype)
    return int((covered(boxes, parts) >= VISIBLE).sum(dim=0).max())


def proposals_in(proposals: Proposals, part: Part) -> Proposals:
    """The proposals of which a part of their picture shows `VISIBLE` or more, cut to it and in its frame."""
    boxes, share = _cut(proposals.boxes, part)
    return replace(proposals, boxes=boxes)[share >= VISIBLE]


def _cut(boxes: Tensor, part: Part) -> tuple[Tensor, Tensor]:
    """(N, 4) in the frame of the part, and the share (N,) of each that is left; 0 for slivers of less than a pixel."""
    x, y, right, bottom = part
    most = torch.tensor([right - x, bottom - y] * 2, dtype=boxes.dtype, device=boxes.device)
    moved = boxes - torch.tensor([x, y] * 2, dtype=boxes.dtype, device=boxes.device)
    inside = moved.clamp(min=0).minimum(most)
    uncut = (inside == moved).all(dim=1)
    share = area(inside) / area(boxes).clamp(min=1e-12)
    sliver = (inside[:, 2:] - inside[:, :2]).amin(dim=1) < 1
    return inside, torch.where(uncut, 1.0, torch.where(sliver, 0.0, share.clamp(max=1 - 1e-6)))
