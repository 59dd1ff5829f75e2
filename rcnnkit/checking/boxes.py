"""Boxes that are there twice, are too thin, or are all in one corner of their pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnnkit.checking.findings import OBJECT_TWICE, OBJECTS_ALIKE, ONE_CORNER, THIN_BOX, TWO_CLASSES, Finding
from rcnnkit.checking.objects import Objects
from rcnnkit.structures import Array
from rcnnkit.text import count

SAME = 0.95  # IoU of two boxes around one object; people who draw it twice differ by more
ALIKE = 0.85  # IoU that few neighbours have
THIN = 1.0  # pixels
CORNER = 0.7  # share of the width and height that boxes of whole pictures exceed
ENOUGH = 50  # boxes; of fewer, all may be in one corner by chance


def doubles(objects: Objects) -> list[tuple[int, int]]:
    """(i, j) of each object j that an object i of its class before it is, too; no i is a j."""
    first, second, overlap = objects.overlaps
    found = (overlap >= SAME) & (objects.labels[first] == objects.labels[second])
    pairs: dict[int, int] = {}
    for i, j in zip(first[found].tolist(), second[found].tolist(), strict=True):
        if i not in pairs:
            pairs.setdefault(j, i)
    return [(i, j) for j, i in sorted(pairs.items())]


def check_boxes(objects: Objects, split: str) -> Iterator[Finding]:
    """What boxes alone show."""
    for i, j in doubles(objects):
        same = np.array_equal(objects.boxes[i], objects.boxes[j])
        how = "the same as" if same else f"nearly the same as {objects.written(i)} of"
        message = f"its box, {objects.written(j)}, is {how} {objects.name(i)}"
        yield Finding(OBJECT_TWICE, split, objects.file(j), objects.name(j), message, objects.box(j))
    first, second, overlap = objects.overlaps
    same_class = objects.labels[first] == objects.labels[second]
    for kind, mask in (
        (TWO_CLASSES, (overlap >= SAME) & ~same_class),
        (OBJECTS_ALIKE, (overlap >= ALIKE) & (overlap < SAME) & same_class),
    ):
        for i, j, share in zip(first[mask].tolist(), second[mask].tolist(), overlap[mask].tolist(), strict=True):
            message = f"its box, {objects.written(j)}, overlaps {objects.name(i)} with an IoU of {share:.2f}"
            yield Finding(kind, split, objects.file(j), objects.name(j), message, objects.box(j))
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    for i in np.flatnonzero(sides.min(axis=1, initial=np.inf) <= THIN).tolist():
        width, height = sides[i].tolist()
        message = f"its box is {width:g} wide and {height:g} high: {objects.written(i)}"
        yield Finding(THIN_BOX, split, objects.file(i), objects.name(i), message, objects.box(i))
    yield from _in_one_corner(objects, split)


def _in_one_corner(objects: Objects, split: str) -> Iterator[Finding]:
    if len(objects) < ENOUGH:
        return
    reach = _reach(objects)
    if max(reach) < CORNER:
        x, y = objects.boxes[:, 2].max(), objects.boxes[:, 3].max()
        message = (
            f"none of the {count(len(objects), 'object')} reaches beyond {reach[0]:.0%} of its picture's width and"
            f" {reach[1]:.0%} of its height; the greatest x is {x:g}, the greatest y {y:g}"
        )
        yield Finding(ONE_CORNER, split, objects.dataset.name, "", message)


def _reach(objects: Objects) -> tuple[float, float]:
    """The greatest share of the width and of the height that a box reaches."""
    ends: Array = objects.boxes[:, 2:] / objects.sizes[objects.pictures][:, ::-1]
    across, down = ends.max(axis=0).tolist()
    return across, down
