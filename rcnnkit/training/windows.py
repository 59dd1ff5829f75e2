"""The windows of training pictures: which regions there are, and their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcnnkit.boxes import iou, scale
from rcnnkit.data.records import Record
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.images import read_picture
from rcnnkit.matching import class_overlaps
from rcnnkit.structures import Array, Proposals, Targets


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The regions of one training picture, in its pixels as it was given: its objects, then its proposals."""

    record: Record
    targets: Targets  # the objects that are learnt from, and crowds
    boxes: Tensor  # (N, 4)

    @classmethod
    def of(cls, record: Record, proposals: Proposals, use_difficult: bool) -> Windows:
        targets = record.targets if use_difficult else record.targets[~record.targets.difficult]
        return cls(record, targets, torch.cat([targets.boxes[~targets.crowd], proposals.boxes]))

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def objects(self) -> Targets:
        """The first of the windows."""
        return self.targets[~self.targets.crowd]

    def near(self, min_iou: float) -> tuple[Tensor, Tensor]:
        """The windows whose IoU with an object exceeds `min_iou`, and for each its best object: both (M,) int64.

        An object's own window is its own, whichever others have the same box.
        """
        if not len(self.objects):
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        best, index = iou(self.boxes, self.objects.boxes).max(dim=1)
        index[: len(self.objects)] = torch.arange(len(self.objects))
        near = torch.where(best > min_iou)[0]
        return near, index[near]

    def overlaps(self, num_classes: int) -> Array:
        """(N, K) greatest IoU of each window with an object of each class, also those that are not learnt from:
        a difficult object is no negative."""
        return class_overlaps(self.boxes, self.record.targets, num_classes).numpy()


def fingerprint(windows: Sequence[Windows]) -> str:
    """A short hash of which windows of which pictures, and of the objects in these."""
    digest = hashlib.sha256()
    for of_picture in windows:
        digest.update(f"{of_picture.record.id} {len(of_picture.targets)} {len(of_picture)} ".encode())
        objects = of_picture.record.targets
        for part in (of_picture.boxes, objects.boxes, objects.labels, objects.crowd):
            digest.update(part.numpy().tobytes())
    return digest.hexdigest()[:16]


class Pictures:
    """Training pictures as R-CNN sees them, decoded and normalised once where memory allows.

    Args:
        windows: of each picture.
        detector: that cuts them out.
        memory_gb: how much of them is kept, 12 bytes a pixel.
    """

    def __init__(self, windows: Sequence[Windows], detector: RCNN, memory_gb: float) -> None:
        self.windows, self.detector = windows, detector
        self.kept: dict[int, Tensor] = {}
        self.room = memory_gb * 1e9

    def pixels(self, picture: int) -> Tensor:
        """(3, h, w) normalised.

        Raises:
            FileNotFoundError, ValueError: it cannot be read.
        """
        if picture in self.kept:
            return self.kept[picture]
        record, preprocessing = self.windows[picture].record, self.detector.preprocessing
        small = preprocessing.resize(read_picture(record.path, record.size))
        size = (small.shape[1], small.shape[2])
        pixels = preprocessing.batch([small], [size], "cpu").pixels[0, :, : size[0], : size[1]].contiguous()
        if pixels.nbytes <= self.room:
            self.room -= pixels.nbytes
            self.kept[picture] = pixels
        return pixels

    def boxes(self, picture: int, pixels: Tensor) -> Tensor:
        """(N, 4): the windows' boxes in the frame of the picture's `pixels`."""
        windows = self.windows[picture]
        return scale(windows.boxes, windows.record.size, (pixels.shape[1], pixels.shape[2]))

    def cut(self, picture: int, rows: Tensor) -> Tensor:
        """(R, 3, S, S): some windows of a picture, on the CPU."""
        pixels = self.pixels(picture)
        return self.detector.warp(pixels, self.boxes(picture, pixels)[rows])
