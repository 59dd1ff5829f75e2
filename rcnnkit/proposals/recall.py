"""How well proposals cover the objects: recall, and average best overlap (Selective Search, IJCV 2013, section 5).

The best overlap of an object is its highest IoU with any of the first proposals of its picture.

    recall  share of the objects whose best overlap is above 0.5 (or 0.7)
    ABO     average best overlap of the objects of one class
    MABO    mean of the ABO over the classes that have objects

Difficult and crowd objects are left out. IoU is that of our continuous boxes; with VOC's objects, from whose xmin and
ymin the reader has subtracted 1, and proposals taken over likewise, it is the papers' IoU of inclusive pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rcnnkit.boxes import area, iou
from rcnnkit.structures import Proposals, Targets

COUNTS = (100, 500, 1000, 2000)
LARGE = 32 * 32  # square pixels; COCO calls smaller objects small
SELECTIONS = {"all": 0.0, "≥ 32×32": LARGE}  # objects, and from which area on


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """The best overlap of each of M objects with the first proposals of its picture."""

    counts: Sequence[int]  # how many proposals are the first ones
    overlaps: Tensor  # (len(counts), M) float64
    labels: Tensor  # (M,) int64 in [0, K)
    areas: Tensor  # (M,) float64, square pixels of the objects' boxes
    lengths: Tensor  # (P,) int64: the proposals that each picture has
    class_names: Sequence[str]  # K names

    def best(self, count: int, min_area: float = 0.0) -> Tensor:
        """The best overlap of each object of `min_area` or more with the first `count` proposals.

        Raises:
            ValueError: `count` is not one of `counts`.
        """
        if count not in self.counts:
            raise ValueError(f"{count} proposals were not measured; there are {', '.join(map(str, self.counts))}")
        return self.overlaps[self.counts.index(count)][self.areas >= min_area]

    def recall(self, count: int, threshold: float = 0.5, min_area: float = 0.0) -> float:
        """Share of the objects whose best overlap is above `threshold`; NaN where there are none."""
        best = self.best(count, min_area)
        return float((best > threshold).double().mean())

    def abo(self, count: int, min_area: float = 0.0) -> Tensor:
        """(K,) float64: average best overlap of each class; NaN where it has no objects."""
        best, labels = self.best(count, min_area), self.labels[self.areas >= min_area]
        sums = torch.zeros(len(self.class_names), dtype=torch.float64).index_add(0, labels, best)
        return sums / torch.bincount(labels, minlength=len(self.class_names))

    def mabo(self, count: int, min_area: float = 0.0) -> float:
        """Mean average best overlap: over the classes that have objects; NaN where there are none."""
        return float(self.abo(count, min_area).nanmean())

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values: fractions, and null (None) where undefined."""
        return {
            "pictures": len(self.lengths),
            "proposals": int(self.lengths.sum()),
            "first": [
                {
                    "proposals": count,
                    "min_area": min_area,
                    "objects": int((self.areas >= min_area).sum()),
                    "recall_50": _or_none(self.recall(count, 0.5, min_area)),
                    "recall_70": _or_none(self.recall(count, 0.7, min_area)),
                    "mabo": _or_none(self.mabo(count, min_area)),
                    "abo": list(map(_or_none, self.abo(count, min_area).tolist())),
                }
                for min_area in SELECTIONS.values()
                for count in self.counts
            ],
            "class_names": list(self.class_names),
        }


def best_overlaps(boxes: Tensor, objects: Tensor, counts: Sequence[int]) -> Tensor:
    """The highest IoU of each object with the first boxes.

    Args:
        boxes: (N, 4) xyxy, best first.
        objects: (M, 4) xyxy, same frame.
        counts: how many boxes are the first ones; may exceed N.

    Returns:
        (len(counts), M) float64; 0 where there is no box.
    """
    # In double precision, so that an IoU of exactly 0.5 is not above it.
    overlaps = iou(boxes[: max(counts)].double(), objects.double())
    running = torch.cat([overlaps.new_zeros(1, len(objects)), overlaps]).cummax(dim=0).values
    return running[[min(count, len(overlaps)) for count in counts]]


def coverage(
    proposals: Iterable[Proposals],
    targets: Iterable[Targets],
    class_names: Sequence[str],
    counts: Sequence[int] = COUNTS,
) -> Coverage:
    """Hold the proposals of each picture against its objects.

    Args:
        proposals: of each picture, best first; looked at once and not kept, so it may be a generator.
        targets: the objects of the same pictures, in the same frame.
        class_names: K names.
        counts: how many proposals are the first ones, each 1 or more.

    Raises:
        ValueError: there are more pictures in one of the two than in the other, or `counts` is empty or not positive.
    """
    if not counts or min(counts) < 1:
        raise ValueError(f"counts is {list(counts)}; give how many proposals are the first ones, each 1 or more")
    overlaps, objects, lengths = [torch.zeros(len(counts), 0, dtype=torch.float64)], [], []
    for regions, target in zip(proposals, targets, strict=True):
        plain = target.to("cpu")[~(target.difficult | target.crowd).cpu()]
        overlaps.append(best_overlaps(regions.boxes.cpu(), plain.boxes, counts))
        objects.append(plain)
        lengths.append(len(regions))
    return Coverage(
        counts=tuple(counts),
        overlaps=torch.cat(overlaps, dim=1),
        labels=torch.cat([torch.zeros(0, dtype=torch.int64), *(each.labels for each in objects)]),
        areas=torch.cat([torch.zeros(0, dtype=torch.float64), *(area(each.boxes.double()) for each in objects)]),
        lengths=torch.tensor(lengths, dtype=torch.int64),
        class_names=tuple(class_names),
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
