"""How well regions are found and described: the average precision of DenseCap (arXiv:1511.07571, section 4.3).

A detection is right where its IoU with an object and the METEOR of its phrase both reach a threshold; AP is the mean
over 5 × 6 pairs of thresholds. As in the released evaluation:

- Objects that overlap by an IoU of 0.7 or more are one, with their mean box and all their phrases as references; the
  largest group is made first.
- The best detection comes first. Each one takes the object that it overlaps most, however little that is and whatever
  it says, so that a bad early one makes a good later one wrong.
- The METEOR must be above its threshold, the IoU at least at it.
- Precision is read at 101 recalls, at each the largest of those that reach it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rcnnkit.boxes import iou
from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.sentences import meteor
from rcnnkit.structures import Array, Detections, Targets
from rcnnkit.vocabulary import Vocabulary

OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)
METEORS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
SAME = 0.7  # IoU from which two objects are one
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True, eq=False)
class DenseCaptions:
    """Average precision of boxes with phrases; NaN where there is no object."""

    ap: Array  # (5, 6) at each of OVERLAPS and METEORS
    boxes_ap: Array  # (5,) at each of OVERLAPS, whatever the phrases say
    objects: int  # after those that are one were merged
    meteor: str  # which one it is

    @property
    def numbers(self) -> dict[str, float]:
        """`dense_AP`, and `regions_AP`, where phrases do not count."""
        return {"dense_AP": float(self.ap.mean()), "regions_AP": float(self.boxes_ap.mean())}

    def to_json(self) -> dict[str, Any]:
        """Plain values; null (None) where undefined."""
        numbers = {name: None if math.isnan(value) else value for name, value in self.numbers.items()}
        table = [[None if math.isnan(value) else value for value in row] for row in self.ap.tolist()]
        return {**numbers, "objects": self.objects, "meteor": self.meteor, "ap": table}


def dense_captions(detections: Sequence[Detections], dataset: Dataset) -> DenseCaptions:
    """The average precision of described detections in the pictures of a data set, one Detections for each."""
    vocabulary = Vocabulary(dataset.words)
    scores, overlaps, free, candidates, references = [], [], [], list[str](), list[list[str]]()
    objects = 0
    for detected, record in zip(detections, dataset.records, strict=True):
        boxes, phrases = merged(record.targets, vocabulary)
        objects += len(boxes)
        detected = detected.to("cpu")
        order = torch.argsort(detected.scores, descending=True, stable=True).tolist()
        both = iou(detected.boxes, boxes)
        best, nearest = both.max(dim=1) if len(boxes) else (detected.scores * 0, detected.labels * 0)
        regions_taken = set[int]()
        for i in order:
            region = int(nearest[i]) if best[i] > 0 else -1
            scores.append(float(detected.scores[i]))
            overlaps.append(float(best[i]))
            free.append(region >= 0 and region not in regions_taken)
            regions_taken.add(region)
            candidates.append(detected.phrases[i])
            references.append(phrases[region] if region >= 0 else [])
    meteors, kind = meteor(candidates, references)
    ranked = np.argsort(-np.array(scores), kind="stable")
    overlap, quality, first = (np.array(each)[ranked] for each in (overlaps, meteors, np.array(free, bool)))
    ap = np.array(
        [[_average_precision(first & (overlap >= o) & (quality > m), objects) for m in METEORS] for o in OVERLAPS]
    )
    boxes_ap = np.array([_average_precision(first & (overlap >= o), objects) for o in OVERLAPS])
    return DenseCaptions(ap, boxes_ap, objects, kind)


def merged(targets: Targets, vocabulary: Vocabulary) -> tuple[torch.Tensor, list[list[str]]]:
    """(M, 4) boxes and the phrases of each, after objects that overlap much have become one."""
    phrases = vocabulary.decode(targets.phrases)
    overlaps_much = iou(targets.boxes, targets.boxes) >= SAME
    boxes, groups = [], []
    while overlaps_much.any():
        rows = torch.where(overlaps_much[overlaps_much.sum(dim=1).argmax()])[0]
        boxes.append(targets.boxes[rows].mean(dim=0))
        groups.append([phrases[i] for i in rows.tolist()])
        overlaps_much[rows], overlaps_much[:, rows] = False, False
    return torch.stack(boxes) if boxes else targets.boxes[:0], groups


def _average_precision(right: Array, objects: int) -> float:
    """Of detections, best first, which of them are right, (N,) bool."""
    if not objects:
        return math.nan
    hits = np.cumsum(right)
    recall, precision = hits / objects, hits / np.arange(1, len(right) + 1)
    return float(np.mean([precision[recall >= r].max(initial=0) for r in RECALLS]))
