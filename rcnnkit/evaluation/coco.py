"""COCO's twelve numbers, computed by pycocotools itself."""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.classes import in_classes
from rcnnkit.structures import Detections, coco_entry

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
MAXIMUM = 100  # detections per picture and class, of which COCO looks at no more
# Besides, where pictures hold more objects of a class than that: the same with every detection. Name: (IoU, area).
UNCAPPED = {"AP_all": ("0.50:0.95", "all"), "AP50_all": ("0.50", "all"), "AR_all": ("0.50:0.95", "all")}


@dataclass(frozen=True, slots=True)
class CocoClass:
    """The figures of one class; fractions, NaN where the class has no objects."""

    name: str
    objects: int  # without crowds
    ap: float  # mean over IoU 0.50:0.95
    ap50: float
    ap_all: float = math.nan  # as `ap`, of all detections; NaN too where the data set is not crowded


@dataclass(frozen=True, slots=True)
class CocoResult:
    """COCO's numbers for a whole data set and for each class, in the order of the class names."""

    # The keys of NUMBERS, and those of UNCAPPED where the data set is crowded; fractions, NaN where undefined.
    numbers: dict[str, float]
    classes: Sequence[CocoClass]


def is_crowded(dataset: Dataset) -> bool:
    """Whether a picture holds more objects of one class than COCO's AP looks at detections."""
    return bool((dataset.fullest(of_class=True) > MAXIMUM).any())


def coco_metrics(detections: Sequence[Detections], dataset: Dataset) -> CocoResult:
    """COCO's twelve numbers, and AP and AP50 of each class; of a crowded data set those of UNCAPPED too.

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
        results = _results([in_classes(answer, dataset.class_names) for answer in detections], truth, dataset)
        run = COCOeval(truth, results, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
        numbers = {name: _or_nan(value) for name, value in zip(NUMBERS, run.stats.tolist(), strict=True)}

        precision_all = None
        if is_crowded(dataset):
            uncapped = _Uncapped(truth, results, "bbox")
            uncapped.evaluate()
            uncapped.accumulate()
            precision_all, recall_all = uncapped.eval["precision"], uncapped.eval["recall"]
            means = _mean(precision_all), _mean(precision_all[0]), _mean(recall_all)
            numbers |= dict(zip(UNCAPPED, means, strict=True))

    objects = dataset.flat.objects
    counts = np.bincount(objects["label"][~objects["crowd"]], minlength=len(dataset.class_names))
    # (IoU, recall, class, area range, detections): all areas, 100 detections
    precision = run.eval["precision"][:, :, :, 0, -1]
    classes = [
        CocoClass(
            name,
            int(counts[k]),
            _or_nan(precision[:, :, k].mean()),
            _or_nan(precision[0, :, k].mean()),
            math.nan if precision_all is None else _mean(precision_all[:, :, k]),
        )
        for k, name in enumerate(dataset.class_names)
    ]
    return CocoResult(numbers, tuple(classes))


class _Uncapped(COCOeval):
    """pycocotools' evaluation of every detection, on objects of all sizes.

    Its own `evaluateImg` looks at every pair of detection and object: 20 s for a picture with 1,500 objects. Here
    only those that overlap enough for the lowest threshold are looked at, and the answers are the same.
    """

    def __init__(self, truth: COCO, results: COCO, kind: str) -> None:
        super().__init__(truth, results, kind)
        most = Counter((entry["image_id"], entry["category_id"]) for entry in results.dataset["annotations"])
        self.params.maxDets = [max(most.values(), default=1)]
        self.params.areaRng, self.params.areaRngLbl = self.params.areaRng[:1], self.params.areaRngLbl[:1]

    def computeIoU(self, image_id: int, category: int) -> None:
        """Not beforehand: pycocotools would keep those of all pictures, each 20 MB and more."""

    def evaluateImg(self, image_id: int, category: int, area: Any, most: int) -> dict[str, Any] | None:
        objects, results = self._gts[image_id, category], self._dts[image_id, category]
        if not objects and not results:
            return None
        order = np.argsort([entry["ignore"] for entry in objects], kind="stable")
        ignore = np.array([objects[i]["ignore"] for i in order], dtype=int)
        results = sorted(results, key=lambda entry: -entry["score"])  # stable, as the rows of the overlaps are
        matches, ignored = np.zeros((2, len(self.params.iouThrs), len(results)))
        if objects and results:
            overlaps = super().computeIoU(image_id, category)[:, order]
            near = [np.flatnonzero(row >= self.params.iouThrs[0] - 1e-9) for row in overlaps]
            for t, threshold in enumerate(self.params.iouThrs):
                free = np.ones(len(objects), dtype=bool)
                for d, candidates in enumerate(near):
                    best, match = min(threshold, 1 - 1e-10), -1
                    for g in candidates:
                        if not free[g] and not ignore[g]:
                            continue
                        if match >= 0 and not ignore[match] and ignore[g]:
                            break  # what is to be ignored comes last
                        if overlaps[d, g] >= best:
                            best, match = overlaps[d, g], int(g)
                    if match >= 0:
                        free[match] = False
                        matches[t, d], ignored[t, d] = objects[order[match]]["id"], ignore[match]
        return {
            "dtMatches": matches,
            "dtScores": [entry["score"] for entry in results],
            "gtIgnore": ignore,
            "dtIgnore": ignored.astype(bool),
        }


def _mean(values: np.ndarray) -> float:
    """pycocotools' mean, of what is not -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else math.nan


def _or_nan(value: float) -> float:
    return float(value) if value > -1 else float("nan")


def _image_ids(dataset: Dataset) -> list[int]:
    """COCO's own ids where the data set has them, else 1…N.

    pycocotools goes through the pictures by id, and equal scores keep that order: with COCO's
    ids the numbers are those of a results file.
    """
    ids = dataset.flat.ids
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
        for box, label, crowd, area in zip(
            objects.boxes.tolist(),
            objects.labels.tolist(),
            objects.crowd.tolist(),
            objects.areas.tolist(),
            strict=True,
        ):
            number = len(annotations) + 1  # from 1: COCOeval takes id 0 for "not matched"
            entry = coco_entry(image_id, label + 1, box)
            annotations.append({"id": number, **entry, "area": area, "iscrowd": int(crowd)})
    return _index(images, annotations, dataset)


def _results(detections: Sequence[Detections], truth: COCO, dataset: Dataset) -> COCO:
    entries = [
        coco_entry(image_id, label + 1, box) | {"score": score}
        for image_id, answer in zip(_image_ids(dataset), detections, strict=True)
        for box, score, label in zip(answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(), strict=True)
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
