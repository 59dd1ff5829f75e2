"""COCO's twelve numbers, as pycocotools computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.matches import AREAS, Floats, Hits, Matches, Objects, Ranking, by_area, known_mean, match
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

    They are pycocotools' to the last digits (1e-12). Where a number is undefined (no object of that size, no object
    of that class), it says -1; here it is NaN, which nobody averages by mistake.

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
    return summarize(area_matches(detections, dataset), dataset)


def area_matches(detections: Sequence[Detections], dataset: Dataset) -> Matches:
    """What COCO's numbers are made of. Arguments and errors as of `coco_metrics`."""
    ranking, objects = Ranking.of(detections, dataset), Objects.of(dataset)
    return match(ranking, objects, dataset, by_area(ranking, objects))


def summarize(matches: Matches, dataset: Dataset) -> CocoResult:
    """COCO's numbers of `area_matches`."""
    crowded = is_crowded(dataset)
    strata = [matches.hits(stratum) for stratum in range(len(matches.strata.names))]
    precision, _ = strata[0].curves(MAXIMUM)
    ap_all = strata[0].ap().mean(axis=0) if crowded else np.full(len(dataset.class_names), np.nan)
    counts = np.bincount(matches.objects.labels[~matches.objects.crowd], minlength=len(dataset.class_names))
    classes = [
        CocoClass(
            name,
            int(counts[k]),
            float(precision[:, :, k].mean()),
            float(precision[0, :, k].mean()),
            float(ap_all[k]),
        )
        for k, name in enumerate(dataset.class_names)
    ]
    return CocoResult(coco_numbers(strata, crowded), tuple(classes))


def coco_numbers(strata: Sequence[Hits], crowded: bool, weights: Floats | None = None) -> dict[str, float]:
    """The keys of NUMBERS, and those of UNCAPPED where the data set is crowded; NaN where undefined.

    Args:
        strata: of `area_matches`, in the order of AREAS.
        weights: (P,) how often each picture counts; each once by default.
    """
    curves = {name: hits.curves(MAXIMUM, weights) for name, hits in zip(AREAS, strata, strict=True)}
    precision, recall = curves.pop("all")
    numbers = {"AP": known_mean(precision), "AP50": known_mean(precision[0]), "AP75": known_mean(precision[5])}
    numbers |= {f"AP{name[0]}": known_mean(of_area) for name, (of_area, _) in curves.items()}
    numbers |= {f"AR{most}": known_mean(strata[0].curves(most, weights)[1]) for most in (1, 10)}
    numbers |= {"AR100": known_mean(recall)} | {
        f"AR{name[0]}": known_mean(of_area) for name, (_, of_area) in curves.items()
    }
    if crowded:
        precision, recall = strata[0].curves(None, weights)
        numbers |= dict(
            zip(UNCAPPED, (known_mean(precision), known_mean(precision[0]), known_mean(recall)), strict=True)
        )
    return numbers
