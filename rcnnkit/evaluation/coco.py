"""COCO's twelve numbers, computed by pycocotools itself."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.classes import in_classes
from rcnnkit.structures import Detections

# name: (IoU, area of the objects, detections per picture and class), in pycocotools' order
NUMBERS = {
    "AP": ("0.50:0.95", "all", 100),
    "AP50": ("0.50", "all", 100),
    "AP75": ("0.75", "all", 100),
    "APs": ("0.50:0.95", "< 32²", 100),
    "APm": ("0.50:0.95", "32² – 96²", 100),
    "APl": ("0.50:0.95", "> 96²", 100),
    "AR1": ("0.50:0.95", "all", 1),
    "AR10": ("0.50:0.95", "all", 10),
    "AR100": ("0.50:0.95", "all", 100),
    "ARs": ("0.50:0.95", "< 32²", 100),
    "ARm": ("0.50:0.95", "32² – 96²", 100),
    "ARl": ("0.50:0.95", "> 96²", 100),
}


@dataclass(frozen=True, slots=True)
class CocoClass:
    """The figures of one class; fractions, NaN where the class has no objects."""

    name: str
    objects: int  # without crowds
    ap: float  # mean over IoU 0.50:0.95
    ap50: float


@dataclass(frozen=True, slots=True)
class CocoResult:
    """COCO's numbers for a whole data set and for each class, in the order of the class names."""

    numbers: dict[str, float]  # the keys of NUMBERS; fractions, NaN where undefined
    classes: Sequence[CocoClass]


def coco_metrics(detections: Sequence[Detections], dataset: Dataset) -> CocoResult:
    """COCO's twelve numbers, and AP and AP50 of each class.

    Where a number is undefined (no object of that size, no object of that class), pycocotools
    says -1; here it is NaN, which nobody averages by mistake.

    Crowds are crowds: a detection inside one counts neither way. A VOC object marked difficult
    counts as any other: COCO has no such mark, and a crowd, the nearest thing, would measure
    overlap against the detection's area alone.

    Args:
        detections: one per record, in the order of `dataset.records`, boxes in its pixels;
            labels are matched with the data set's classes as in `in_classes`.
        dataset: the ground truth. Objects are small or large by `targets.areas`.

    Raises:
        ValueError: the lengths differ, or the detections do not fit the classes (`in_classes`).

    Source: pycocotools' COCOeval, iouType "bbox", with its default parameters.
    """
    if len(detections) != len(dataset):
        raise ValueError(
            f"{len(detections)} pictures with detections but {dataset.name} has {len(dataset)}; give one per picture"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports each step
        truth = _ground_truth(dataset)
        found = _results([in_classes(each, dataset.class_names) for each in detections], truth, dataset)
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    numbers = {name: _or_nan(value) for name, value in zip(NUMBERS, run.stats.tolist(), strict=True)}

    counts = np.zeros(len(dataset.class_names), dtype=np.int64)
    for record in dataset.records:
        labels = record.targets.labels[~record.targets.crowd]
        counts += np.bincount(labels.cpu().numpy(), minlength=len(counts))
    # (IoU, recall, class, area range, detections): all areas, 100 detections
    precision = run.eval["precision"][:, :, :, 0, -1]
    classes = [
        CocoClass(name, int(counts[k]), _or_nan(precision[:, :, k].mean()), _or_nan(precision[0, :, k].mean()))
        for k, name in enumerate(dataset.class_names)
    ]
    return CocoResult(numbers, tuple(classes))


def _or_nan(value: float) -> float:
    return float(value) if value > -1 else float("nan")


def _image_ids(dataset: Dataset) -> list[int]:
    """COCO's own ids where the data set has them, else 1…N.

    pycocotools goes through the pictures by id, and equal scores keep that order: with COCO's
    ids the numbers are those of a results file.
    """
    ids = [record.id for record in dataset.records]
    if all(isinstance(each, int) for each in ids) and len(set(ids)) == len(ids):
        return [int(each) for each in ids]
    return list(range(1, len(ids) + 1))


def _ground_truth(dataset: Dataset) -> COCO:
    """The data set as pycocotools wants it; categories are numbered label + 1.

    Not with the data set's category ids: pycocotools sorts them, and the classes would lose
    the order of the labels.
    """
    annotations: list[dict[str, Any]] = []
    images = []
    for image_id, record in zip(_image_ids(dataset), dataset.records, strict=True):
        images.append({"id": image_id, "height": record.size[0], "width": record.size[1]})
        objects = record.targets.to("cpu")
        for (x1, y1, x2, y2), label, crowd, area in zip(
            objects.boxes.tolist(),
            objects.labels.tolist(),
            objects.crowd.tolist(),
            objects.areas.tolist(),
            strict=True,
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: COCOeval takes id 0 for "not matched"
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    return _index(images, annotations, dataset)


def _results(detections: Sequence[Detections], truth: COCO, dataset: Dataset) -> COCO:
    entries = [
        {
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image_id, found in zip(_image_ids(dataset), detections, strict=True)
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    # loadRes looks at the first entry to learn what it was given, so it cannot take none.
    return truth.loadRes(entries) if entries else _index(truth.dataset["images"], [], dataset)


def _index(images: list[dict[str, Any]], annotations: list[dict[str, Any]], dataset: Dataset) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)],
    }
    coco.createIndex()
    return coco
