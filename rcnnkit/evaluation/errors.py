"""Why average precision is lost: each mistake has one cause, and each cause costs what AP would gain without it.

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2. Where a
detection lies in a crowd, it is no mistake here; tidecv would give it a cause all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.matches import RECALLS, Floats, Matches, overlaps
from rcnnkit.structures import Array

BACKGROUND_IOU = 0.1  # up to which a detection shows background
# Cause: what it means. The paper's order, in which a mistake gets the first one that fits.
CAUSES = {
    "place": "the right class, but an IoU between 0.1 and 0.5",
    "class": "an object of another class, at an IoU of 0.5 or more",
    "duplicate": "an object that a better detection found",
    "background": "nothing: no object at an IoU above 0.1",
    "both": "the wrong class and the wrong place",
    "missed": "an object that no detection shows, not even with the wrong class or in the wrong place",
}
FALSE = tuple(CAUSES)[:-1]  # causes of detections; objects are missed


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """The cause of every mistake at an IoU of 0.5, and what each cause costs."""

    causes: Array  # (D,) the place of its cause in CAUSES; -1: right, or not counted
    shown: Array  # (D,) the object that a mistake was held against; -1: none
    missed: Array  # (G,) bool
    ap50: float  # of all detections
    costs: Mapping[str, float]  # cause → AP50 without its mistakes, minus AP50
    false_positives: float  # what AP50 would gain if all false positives came last
    false_negatives: float  # what it would gain if nothing unfound counted

    def count(self, cause: str) -> int:
        """Of a key of CAUSES."""
        return int(self.missed.sum() if cause == "missed" else (self.causes == list(CAUSES).index(cause)).sum())


def find_errors(matches: Matches, dataset: Dataset) -> Errors:
    """The errors of a matching whose first threshold is 0.5, and whose first stratum holds everything."""
    ranking, objects = matches.ranking, matches.objects
    hit, ignored = hits_of(matches)
    used = np.zeros(len(objects), dtype=bool)
    used[hit[hit >= 0]] = True
    causes, counterparts = _causes(matches, dataset, (hit < 0) & ~ignored, used)

    # Of the mistakes that could become hits of one unused object, the best one would.
    fixable = np.isin(causes, (0, 1)) & (counterparts >= 0)
    fixable[fixable] = ~used[counterparts[fixable]]
    candidates = np.flatnonzero(fixable)
    candidates = candidates[np.argsort(-ranking.scores[candidates], kind="stable")]
    _, first = np.unique(counterparts[candidates], return_index=True)
    best = candidates[first]
    usable = np.zeros(len(objects), dtype=bool)
    usable[counterparts[best]] = True
    missed = ~used & ~usable & ~objects.crowd

    counts = np.bincount(objects.labels[~objects.crowd], minlength=matches.size[1])
    present = np.flatnonzero(counts)
    right, valid, labels = hit >= 0, ~ignored, ranking.labels

    def ap(right: Array, valid: Array, labels: Array, counts: Array, scores: Floats = ranking.scores) -> float:
        """Mean over the classes that have objects, although none of them may be left to find."""
        averages = []
        for k in present:
            rows = np.flatnonzero(valid & (labels == k))
            averages.append(_ap(right[rows[np.argsort(-scores[rows], kind="stable")]], int(counts[k])))
        return float(np.mean(averages)) if averages else float("nan")

    whole = ap(right, valid, labels, counts)
    costs = {}
    for number, cause in enumerate(FALSE):
        fixed = np.zeros(len(ranking), dtype=bool)
        fixed[best[causes[best] == number]] = True
        moved = labels.copy()
        moved[fixed] = objects.labels[counterparts[fixed]]
        costs[cause] = ap(right | fixed, valid & ((causes != number) | fixed), moved, counts)
    left = counts - np.bincount(objects.labels[missed], minlength=matches.size[1])
    costs["missed"] = ap(right, valid, labels, left)
    hit_counts = np.bincount(objects.labels[used], minlength=matches.size[1])
    return Errors(
        causes,
        counterparts,
        missed,
        whole,
        {cause: max(0.0, gained - whole) for cause, gained in costs.items()},
        ap(right, valid, labels, counts, right.astype(np.float64)) - whole,
        ap(right, valid, labels, hit_counts) - whole,
    )


def hits_of(matches: Matches) -> tuple[Array, Array]:
    """(D,) the object that each detection hits at the first threshold, or -1; and whether it counts neither way."""
    hit = np.full(len(matches.ranking), -1)
    hit[matches.near] = matches.taken[0, 0]
    ignored = np.zeros(len(hit), dtype=bool)
    ignored[hit >= 0] = matches.objects.crowd[hit[hit >= 0]]
    return np.where(ignored, -1, hit), ignored


def _causes(matches: Matches, dataset: Dataset, wrong: Array, used: Array) -> tuple[Array, Array]:
    """Of each detection: the number of its cause and the object that it is held against, or -1."""
    ranking, objects = matches.ranking, matches.objects
    parts = list(overlaps(ranking, objects, dataset, 1e-9, same_class=False))
    detection, obj, iou = (np.concatenate([part[i] for part in parts]) for i in range(3))
    looked_at = wrong[detection] & ~objects.crowd[obj]
    detection, obj, iou = detection[looked_at], obj[looked_at], iou[looked_at]
    same_class = ranking.labels[detection] == objects.labels[obj]

    def best(among: Array) -> tuple[Floats, Array]:
        """Each detection's highest IoU, and with which object: the first of equals."""
        values, places = np.zeros(len(ranking)), np.full(len(ranking), -1)
        order = np.flatnonzero(among)
        order = order[np.lexsort((-obj[order], iou[order]))]  # the last assignment stays
        values[detection[order]], places[detection[order]] = iou[order], obj[order]
        return values, places

    own_iou, own_object = best(same_class)
    other_iou, other_object = best(~same_class)
    taken_iou, taken_object = best(same_class & used[obj])
    any_iou, _ = best(np.ones(len(obj), dtype=bool))
    threshold = matches.thresholds[0]
    tests = [
        (own_iou >= BACKGROUND_IOU) & (own_iou <= threshold),
        other_iou >= threshold,
        taken_iou >= threshold,
        any_iou <= BACKGROUND_IOU,
        np.ones(len(ranking), dtype=bool),
    ]
    causes = np.where(wrong, np.select(tests, range(len(tests))), -1)
    nothing = np.full(len(ranking), -1)
    counterparts = np.select(tests[:3], [own_object, other_object, taken_object], nothing)
    return causes, np.where(wrong, counterparts, -1)


def _ap(right: Array, number: int) -> float:
    """Average precision at RECALLS of detections, best first, where there are so many objects."""
    if not number or not len(right):
        return 0.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / number, RECALLS)
    return float(np.concatenate([precision, [0]])[places].mean())
