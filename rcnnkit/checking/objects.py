"""All objects of a data set in flat arrays, so that a million of them are checked in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from rcnnkit.boxes import iou
from rcnnkit.data.checks import Box
from rcnnkit.data.records import Dataset
from rcnnkit.structures import Array

OVERLAP = 0.3  # IoU; pairs with less are not looked at


@dataclass(frozen=True, eq=False)
class Objects:
    """The N objects of a data set, picture after picture."""

    dataset: Dataset
    boxes: Array  # (N, 4) float32 xyxy, pixels of the pictures
    labels: Array  # (N,)
    crowd: Array  # (N,) bool
    pictures: Array  # (N,) which record each is in
    sizes: Array  # (P, 2) height and width of each picture

    @classmethod
    def of(cls, dataset: Dataset) -> Objects:
        records, objects = dataset.flat, dataset.flat.objects
        return cls(
            dataset,
            np.ascontiguousarray(objects["box"]),
            objects["label"].astype(np.int64),
            np.ascontiguousarray(objects["crowd"]),
            np.repeat(np.arange(len(records)), records.counts),
            records.sizes.astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def counts(self) -> Array:
        """(P,) objects of each picture."""
        return np.bincount(self.pictures, minlength=len(self.dataset))

    @cached_property
    def starts(self) -> Array:
        """(P,) the first object of each picture."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def overlaps(self) -> tuple[Array, Array, Array]:
        """Pairs i < j of objects of one picture, crowds left out, and their IoU, from `OVERLAP` on; in order of i."""
        pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
        for picture in np.flatnonzero(self.counts > 1).tolist():
            start = int(self.starts[picture])
            boxes = torch.from_numpy(self.boxes[start : start + int(self.counts[picture])])
            overlap = iou(boxes, boxes).numpy()
            i, j = np.nonzero(np.triu(overlap >= OVERLAP, 1))
            pairs.append((i + start, j + start, overlap[i, j]))
        first, second, overlap = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        plain = ~(self.crowd[first] | self.crowd[second])
        return first[plain], second[plain], overlap[plain]

    def file(self, i: int) -> str:
        """The picture of an object."""
        return str(self.dataset.records[self.pictures[i]].path)

    def name(self, i: int) -> str:
        """Which one of its picture an object is, counted from 0 among those that are not left out."""
        number = i - int(self.starts[self.pictures[i]])
        return f"object {number} ({self.dataset.class_names[self.labels[i]]})"

    def box(self, i: int) -> Box:
        x1, y1, x2, y2 = self.boxes[i].tolist()
        return x1, y1, x2, y2

    def written(self, i: int) -> str:
        """The box of an object in words."""
        return "x1 {:g}, y1 {:g}, x2 {:g}, y2 {:g}".format(*self.box(i))
