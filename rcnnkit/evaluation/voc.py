"""Average precision as Pascal VOC's development kit measures it (VOCevaldet.m, VOCap.m).

Per class, all detections of all pictures in one list, best first. Each is held against the object
of its class in its picture that it overlaps most, difficult objects included:

    IoU below the threshold             false positive
    the object is difficult             ignored, however often it is hit
    no better detection claimed it      true positive
    a better detection claimed it       false positive; there is no fall-back to a second object

Why there is no + 1 here, though the kit computes widths as xmax - xmin + 1. The kit's boxes are
1-based and inclusive. Ours stand for them as x1 = xmin - 1, x2 = xmax, for objects (the reader
subtracts) and for detections (the writer adds) alike. So the kit's width is

    xmax - xmin + 1 = x2 - (x1 + 1) + 1 = x2 - x1,

and its width of an intersection is

    min(xmax) - max(xmin) + 1 = min(x2) - (max(x1) + 1) + 1 = min(x2) - max(x1),

whether or not the numbers are whole: the kit's IoU is the plain IoU in our frame. What remains is
the rounding of a written detection file, which takes no part here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rcnnkit.boxes import iou
from rcnnkit.evaluation.classes import in_classes
from rcnnkit.structures import Detections, Targets

HIT_IOU = 0.5  # the overlap that makes a hit, at least

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class VocClass:
    """The figures of one class; fractions, NaN where the class has no objects."""

    name: str
    ap_11: float  # the mean of 11 precisions: VOC 2007, and the papers' tables on it
    ap_area: float  # the area under the curve: VOC 2010 and later
    npos: int  # objects that count, that is, not difficult
    recall: Curve  # (D,) after each of the D detections that count, best first
    precision: Curve  # (D,) likewise; as measured, not made monotone


@dataclass(frozen=True, slots=True, eq=False)
class VocHits:
    """The detections of one class that count, best first, and its objects."""

    pictures: npt.NDArray[np.int64]  # (D,) the picture of each
    true_positive: npt.NDArray[np.bool_]  # (D,)
    npos: npt.NDArray[np.int64]  # (P,) objects that count in each picture

    def curve(self, weights: Curve | None = None) -> tuple[Curve, Curve]:
        """Recall and precision after each detection; recall is NaN where no object counts.

        Args:
            weights: (P,) how often each picture counts; each once by default.
        """
        weights = np.ones(len(self.npos)) if weights is None else weights
        hits = np.cumsum(self.true_positive * weights[self.pictures])
        looked_at = np.cumsum(weights[self.pictures])
        npos = float(self.npos @ weights)
        recall = hits / npos if npos else np.full(len(hits), np.nan)
        return recall, np.divide(hits, looked_at, out=np.zeros(len(hits)), where=looked_at > 0)


@dataclass(frozen=True, slots=True, eq=False)
class VocResult:
    """VOC average precision of each class, in the order of the class names."""

    classes: Sequence[VocClass]
    iou_threshold: float

    @property
    def mean_ap_11(self) -> float:
        """Mean 11-point AP over the classes that have objects; NaN when none has."""
        return _mean([each.ap_11 for each in self.classes])

    @property
    def mean_ap_area(self) -> float:
        """Mean area AP over the classes that have objects; NaN when none has."""
        return _mean([each.ap_area for each in self.classes])


def voc_ap(
    detections: Sequence[Detections],
    targets: Sequence[Targets],
    class_names: Sequence[str],
    iou_threshold: float = HIT_IOU,
) -> VocResult:
    """Average precision of each class, by the rules above.

    Detections with equal scores keep the order in which they came: picture by picture, and
    within a picture as listed. (The kit's sort is stable too; its order is that of the file.)
    A crowd region, which VOC does not have, is treated as a difficult object.

    Args:
        detections: one per picture.
        targets: one per picture, in the same order and frame.
        class_names: the K names that the labels of `targets` index; detections with other names
            of their own are matched by name.
        iou_threshold: the overlap that makes a hit. At least this much, as in the kit
            (py-faster-rcnn's Python version wants more than this).

    Raises:
        ValueError: the lengths differ, or the detections do not fit the classes (`in_classes`).

    Source: VOC2012 development kit; Everingham et al., "The Pascal Visual Object Classes
    Challenge", IJCV 2010, 4.2.
    """
    classes = []
    for name, hits in zip(class_names, voc_hits(detections, targets, class_names, iou_threshold), strict=True):
        recall, precision = hits.curve()
        npos = int(hits.npos.sum())
        ap_11 = average_precision_11(recall, precision) if npos else float("nan")
        ap_area = average_precision_area(recall, precision) if npos else float("nan")
        classes.append(VocClass(name, ap_11, ap_area, npos, recall, precision))
    return VocResult(tuple(classes), iou_threshold)


def voc_hits(
    detections: Sequence[Detections],
    targets: Sequence[Targets],
    class_names: Sequence[str],
    iou_threshold: float = HIT_IOU,
) -> list[VocHits]:
    """What average precision is made of, class by class. Arguments and errors as of `voc_ap`."""
    if len(detections) != len(targets):
        raise ValueError(
            f"{len(detections)} pictures with detections but {len(targets)} with targets; give one of each per picture"
        )
    # One row per detection of the whole set: score, label, its best object (numbered through
    # the whole set), the overlap with it, and whether that object is difficult.
    scores, labels, objects, overlaps, ignored = [], [], [], [], []
    npos = np.zeros((len(targets), len(class_names)), dtype=np.int64)
    objects_before = 0
    for i, (answer, target) in enumerate(zip(detections, targets, strict=True)):
        answer, truth = in_classes(answer, class_names), target.to("cpu")
        difficult = (truth.difficult | truth.crowd).numpy()
        npos[i] = np.bincount(truth.labels.numpy()[~difficult], minlength=len(class_names))
        scores.append(answer.scores.double().numpy())
        labels.append(answer.labels.numpy())
        if len(truth):
            # In double precision as in the kit: an IoU of exactly 0.5 has to come out as 0.5.
            overlap = iou(answer.boxes.double(), truth.boxes.double()).numpy()
            overlap = np.where(answer.labels.numpy()[:, None] == truth.labels.numpy(), overlap, -1)
            best = overlap.argmax(axis=1)  # the first of equals, as in the kit
            objects.append(objects_before + best)
            overlaps.append(overlap.max(axis=1))
            ignored.append(difficult[best])
        else:
            objects.append(np.full(len(answer), -1))
            overlaps.append(np.full(len(answer), -1.0))
            ignored.append(np.zeros(len(answer), dtype=bool))
        objects_before += len(truth)

    rows = [np.concatenate(column) if column else np.zeros(0) for column in (scores, labels, objects, overlaps)]
    score, label, obj, overlap = rows
    hit = overlap >= iou_threshold
    skip = hit & (np.concatenate(ignored) if ignored else np.zeros(0, dtype=bool))

    lengths = np.array([len(each) for each in labels], dtype=np.int64)
    pictures = np.repeat(np.arange(len(targets)), lengths)

    classes = []
    for k in range(len(class_names)):
        # Ignored detections move neither recall nor precision, so they leave the list at once.
        rank = np.flatnonzero((label == k) & ~skip)
        rank = rank[np.argsort(-score[rank], kind="stable")]
        hits = rank[hit[rank]]
        _, first = np.unique(obj[hits], return_index=True)  # the best-scored hit of each object
        classes.append(VocHits(pictures[rank], np.isin(rank, hits[first]), npos[:, k]))
    return classes


def average_precision_11(recall: Curve, precision: Curve) -> float:
    """Mean, over recalls 0, 0.1, …, 1, of the best precision at that recall or beyond; 0 where none is.

    The recalls are k / 10 as close as floats come. The kit's `0:0.1:1` contains
    0.30000000000000004, which a recall of 3/10 does not reach; we follow the definition.

    Args:
        recall: (D,) fractions, never falling.
        precision: (D,) fractions.

    Raises:
        ValueError: the shapes differ.

    Source: VOC 2007 development kit, VOCevaldet.m.
    """
    _check_curve(recall, precision)
    return float(np.mean([precision[recall >= k / 10].max(initial=0) for k in range(11)]))


def average_precision_area(recall: Curve, precision: Curve) -> float:
    """Area under the curve, once each precision is raised to the best at that recall or beyond.

    Args:
        recall: (D,) fractions, never falling.
        precision: (D,) fractions.

    Raises:
        ValueError: the shapes differ.

    Source: VOC 2010 development kit and later, VOCap.m.
    """
    _check_curve(recall, precision)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def _check_curve(recall: Curve, precision: Curve) -> None:
    if recall.shape != precision.shape or recall.ndim != 1:
        raise ValueError(
            f"recall {recall.shape} and precision {precision.shape} do not make a curve; give one of each per detection"
        )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
