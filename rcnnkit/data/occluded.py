"""Occluded copies of a data set, in which part of each object is covered: how much does a detector lose on them?"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np

from rcnnkit.data.coco import write_coco
from rcnnkit.data.copies import SPLIT, write_copies
from rcnnkit.data.records import Dataset, Record
from rcnnkit.files import check_free
from rcnnkit.images import Array
from rcnnkit.progress import Report, silent


def write_occluded(data: Dataset, out: Path, share: float, seed: int = 0, progress: Report = silent) -> None:
    """Write copies of pictures in which a rectangle of one colour covers a share of each object's box.

    Each rectangle lies in its box, somewhere, and has about its proportions. Crowds are not covered. Where boxes
    overlap, more of an object may be hidden. Annotations stay as they are. The same seed gives the same pictures.

    Args:
        out: a folder that does not exist or is empty. It gets images/, PNGs whose other pixels are those of their
            pictures, and annotations/instances_test.json in COCO's format. It is written atomically.
        share: of the area of each box, between 0 and 1; sides are whole pixels.
        progress: called with what is done so far.

    Raises:
        FileExistsError: `out` is not empty.
        OSError, ValueError: `share` is not between 0 and 1, there is no object to cover, or a picture cannot be read.
    """
    check_free(out)
    if not 0 < share < 1:
        raise ValueError(
            f"share = {share:g} is not between 0 and 1; give the part of each object to cover, such as 0.3"
        )
    if all(record.targets.crowd.all() for record in data.records):
        raise ValueError(f"{data.name} has no object to cover; name a split with annotated objects")

    def change(number: int, record: Record, picture: Array) -> Array:
        boxes = record.targets.boxes[~record.targets.crowd].numpy()
        return occlude(picture, boxes, share, np.random.default_rng([seed, number]))

    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        (half / "images").mkdir(parents=True)
        copies = write_copies(data, half / "images", "occluded", change, progress)
        write_coco(copies, half / "annotations" / f"instances_{SPLIT}.json")
        half.replace(out)  # also of an empty folder
    finally:
        shutil.rmtree(half, ignore_errors=True)


def occlude(picture: Array, boxes: Array, share: float, generator: np.random.Generator) -> Array:
    """A copy of a picture (H, W, 3) uint8 with a rectangle in each of its boxes (N, 4), one after the other."""
    covered = picture.copy()
    for left, upper, right, lower in boxes.tolist():
        x, y = max(0, math.floor(left)), max(0, math.floor(upper))  # whole pixels: all that the box touches
        width = min(picture.shape[1], math.ceil(right)) - x
        height = min(picture.shape[0], math.ceil(lower)) - y
        tall = max(1, round(height * math.sqrt(share)))
        wide = min(max(1, round(share * width * height / tall)), width)
        y += int(generator.integers(height - tall + 1))
        x += int(generator.integers(width - wide + 1))
        covered[y : y + tall, x : x + wide] = generator.integers(256, size=3)
    return covered
