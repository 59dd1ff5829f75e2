"""What a detector does from one score on: precision, recall and F1, the best thresholds, confusions, calibration.

All at an IoU of 0.5, by the matching of COCO's evaluation; detections in crowds count neither way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.errors import hits_of
from rcnnkit.evaluation.matches import Floats, Matches, overlaps
from rcnnkit.structures import Array

# What a threshold can be good for; of precision and recall the one is wanted at least that high, the other as high as
# can be.
WANTED = 0.9
USES = {
    "best F1": "the best balance of precision and recall",
    "few mistakes": f"the highest recall at a precision of {WANTED:.0%} or more",
    "few misses": f"the highest precision at a recall of {WANTED:.0%} or more",
}
BINS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """What is done with the detections that score at least so much."""

    threshold: float
    found: int  # objects
    invented: int  # detections that show none
    missed: int  # objects

    @property
    def precision(self) -> float:
        """NaN where nothing scores so much."""
        shown = self.found + self.invented
        return self.found / shown if shown else float("nan")

    @property
    def recall(self) -> float:
        """NaN where there are no objects."""
        objects = self.found + self.missed
        return self.found / objects if objects else float("nan")

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; NaN where there is nothing at all."""
        everything = 2 * self.found + self.invented + self.missed
        return 2 * self.found / everything if everything else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Every threshold that changes anything, from the highest on, for one class or for all together."""

    thresholds: Floats  # (N,) descending, each a score
    found: Array  # (N,)
    shown: Array  # (N,) detections
    objects: int

    @classmethod
    def of(cls, matches: Matches, label: int | None = None) -> Sweep:
        """Of the detections and objects of a class; None: of all classes together."""
        ranking, objects = matches.ranking, matches.objects
        hit, ignored = hits_of(matches)
        valid, real = ~ignored, ~objects.crowd
        if label is not None:
            valid, real = valid & (ranking.labels == label), real & (objects.labels == label)
        order = np.flatnonzero(valid)
        order = order[np.argsort(-ranking.scores[order], kind="stable")]
        scores = ranking.scores[order]
        last = np.flatnonzero(np.diff(scores, append=np.nan) != 0)  # of equal scores
        return cls(scores[last], np.cumsum(hit[order] >= 0)[last], last + 1, int(real.sum()))

    def at(self, threshold: float) -> Point:
        """From this score on."""
        number = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        found, shown = (int(each[number - 1]) if number else 0 for each in (self.found, self.shown))
        return Point(threshold, found, shown - found, self.objects - found)

    @property
    def precision(self) -> Floats:
        """(N,)"""
        return self.found / self.shown

    @property
    def recall(self) -> Floats:
        """(N,) NaN where there are no objects."""
        return self.found / self.objects if self.objects else np.full(len(self.found), np.nan)

    def best(self, use: str) -> Point | None:
        """The best threshold for one of USES, the highest of equals; None where no threshold is good enough."""
        if not self.objects or not len(self.thresholds):
            return None
        if use == "best F1":
            value, possible = 2 * self.found / (self.shown + self.objects), self.found > 0
        elif use == "few mistakes":
            value, possible = self.recall, (self.precision >= WANTED) & (self.found > 0)
        else:
            value, possible = self.precision, self.recall >= WANTED
        if not possible.any():
            return None
        return self.at(float(self.thresholds[np.argmax(np.where(possible, value, -1))]))


def steps(scores: Floats, probabilities: bool) -> list[float]:
    """Thresholds for a table: round probabilities, or scores that are evenly spread over those that there are."""
    if probabilities:
        return [0.05, *(n / 10 for n in range(1, 10)), 0.95]
    return np.unique(np.quantile(scores, np.linspace(0, 1, 11)).round(3)).tolist() if len(scores) else []


def confusion(matches: Matches, dataset: Dataset, threshold: float) -> Array:
    """(K + 1, K + 1) how often an object of the class of the row was called the class of the column.

    The last column is of missed objects, the last row of detections that show nothing. On the diagonal is what hits by
    the matching of COCO's evaluation. Of what remains, best scores first, each detection is held against the object of
    another class that it overlaps most, among those that are left, at an IoU of 0.5 or more.
    """
    ranking, objects = matches.ranking, matches.objects
    hit, ignored = hits_of(matches)
    confident = (ranking.scores >= threshold) & ~ignored
    table = np.zeros((matches.size[1] + 1, matches.size[1] + 1), dtype=np.int64)
    right = confident & (hit >= 0)
    np.add.at(table, (ranking.labels[right], ranking.labels[right]), 1)
    free = ~objects.crowd
    free[hit[right]] = False
    parts = list(overlaps(ranking, objects, dataset, float(matches.thresholds[0]), same_class=False))
    detection, obj, iou = (np.concatenate([part[i] for part in parts]) for i in range(3))
    possible = (confident & ~right)[detection] & free[obj] & (ranking.labels[detection] != objects.labels[obj])
    order = np.flatnonzero(possible)
    order = order[np.lexsort((-iou[order], detection[order], -ranking.scores[detection[order]]))]
    called = np.zeros(len(ranking), dtype=bool)
    for d, g in zip(detection[order].tolist(), obj[order].tolist(), strict=True):
        if free[g] and not called[d]:
            free[g], called[d] = False, True
            table[objects.labels[g], ranking.labels[d]] += 1
    nothing = confident & ~right & ~called
    table[-1, :-1] = np.bincount(ranking.labels[nothing], minlength=matches.size[1])
    table[:-1, -1] = np.bincount(objects.labels[free], minlength=matches.size[1])
    return table


@dataclass(frozen=True, slots=True)
class Bin:
    """Detections whose scores lie in one interval."""

    low: float
    high: float
    detections: int
    score: float  # their mean; NaN where there are none
    right: float  # the share that hit; NaN likewise


def calibration(matches: Matches) -> list[Bin]:
    """How often detections are right beside what their scores say, in equal intervals of probabilities.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2; of detections: Küppers et al.,
    "Multivariate Confidence Calibration for Object Detection", CVPR workshops 2020.
    """
    hit, ignored = hits_of(matches)
    scores, right = matches.ranking.scores[~ignored], hit[~ignored] >= 0
    places = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    bins = []
    for i in range(BINS):
        mine = places == i
        number = int(mine.sum())
        mean, share = (float(each[mine].mean()) if number else float("nan") for each in (scores, right))
        bins.append(Bin(i / BINS, (i + 1) / BINS, number, mean, share))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: the mean gap between score and share, weighted by detections; NaN of none."""
    everything = sum(each.detections for each in bins)
    gaps = (each.detections * abs(each.score - each.right) for each in bins if each.detections)
    return sum(gaps) / everything if everything else float("nan")
