"""Everything that an evaluation tells about a detector's mistakes, for a page and for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.coco import MAXIMUM, area_matches, coco_numbers
from rcnnkit.evaluation.errors import CAUSES, Errors, find_errors, hits_of
from rcnnkit.evaluation.intervals import Interval, intervals
from rcnnkit.evaluation.matches import AREAS, Floats, Hits, Matches, known_mean, match, ranks
from rcnnkit.evaluation.operating import (
    USES,
    Bin,
    Point,
    Sweep,
    calibration,
    calibration_error,
    confusion,
    steps,
)
from rcnnkit.evaluation.report import Evaluation, or_none
from rcnnkit.evaluation.strata import by_crowding, by_place
from rcnnkit.evaluation.voc import average_precision_11, average_precision_area, voc_hits
from rcnnkit.progress import Report, silent
from rcnnkit.structures import Array, Detections, Targets

LIMITS = (1, 3, 10, 30, 100, 300)  # detections of a picture and class at which AP is given, besides all
CONFIDENT = 60  # mistakes that are listed


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the data set by itself; fractions, NaN where it has no objects."""

    name: str
    objects: int
    ap: float
    ap50: float


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What happened in each of the P pictures at the suggested threshold."""

    found: Array  # (P,) objects
    missed: Array  # (P,) objects
    invented: Array  # (P,) detections that show no object of their class

    @property
    def mistakes(self) -> Array:
        """(P,)"""
        return self.missed + self.invented

    @property
    def worst(self) -> list[int]:
        """The places of those with mistakes, most of them first; of equals the one where less was found."""
        order = np.lexsort((np.arange(len(self.found)), self.found, -self.mistakes))
        return [int(i) for i in order if self.mistakes[i]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A detection that shows no object of its class."""

    detection: int  # its place in the ranking
    cause: str  # of CAUSES
    shown: int  # the object that it was held against, by its place; -1: none


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """An evaluation, and why it came out as it did."""

    evaluation: Evaluation
    dataset: Dataset
    matches: Matches
    intervals: Mapping[str, Interval]  # of the numbers: COCO's by name, voc_11 and voc_area
    class_intervals: Mapping[int, Interval]  # of the classes' AP
    together: Sweep
    sweeps: Sequence[Sweep]  # of each class
    threshold: float  # the suggested one
    confusion: Array  # (K + 1, K + 1) at that threshold
    errors: Errors
    bins: Sequence[Bin]  # empty where scores are no probabilities
    parts: Mapping[str, Sequence[Part]]  # by what the data set is divided: the parts
    by_limit: Mapping[str, float]  # detections of a picture and class → AP
    pictures: Pictures
    mistakes: Sequence[Mistake]  # the most confident ones

    @property
    def steps(self) -> list[float]:
        """Thresholds for a table."""
        return steps(self.matches.ranking.scores, bool(self.bins))

    def shown_in(self, picture: int, threshold: float) -> tuple[Targets, Array, Detections, Array]:
        """The objects of a picture, which of them were found, the detections from a threshold on, and which are right.

        Crowds, and detections in them, are left out.
        """
        matches, names = self.matches, tuple(self.dataset.class_names)
        ranking, objects = matches.ranking, matches.objects
        hit, ignored = hits_of(matches)
        indices = np.flatnonzero((ranking.pictures == picture) & (ranking.scores >= threshold) & ~ignored)
        real = np.flatnonzero((objects.pictures == picture) & ~objects.crowd)
        targets = Targets(_tensor(objects.boxes[real]), torch.from_numpy(objects.labels[real]))
        scores = torch.from_numpy(ranking.scores[indices]).float()
        detections = Detections(
            _tensor(ranking.boxes[indices]), scores, torch.from_numpy(ranking.labels[indices]), names
        )
        return targets, np.isin(real, hit[indices]), detections, hit[indices] >= 0

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; fractions, and null (None) where undefined.

        `hits` is what `rcnnkit compare` reads: one entry for each detection. Bit t of a mask belongs to the t-th
        threshold of IoU, from 0.5 in steps of 0.05.
        """
        names = list(self.dataset.class_names)
        result = self.evaluation.to_json()
        for k, entry in enumerate(result["classes"]):
            entry["AP_interval"] = _pair(self.class_intervals[k])
            entry["best"] = _best(self.sweeps[k])
            entry["thresholds"] = [_point(self.sweeps[k].at(step)) for step in self.steps]
        return result | {
            "intervals": {name: _pair(interval) for name, interval in self.intervals.items()},
            "threshold": self.threshold,
            "thresholds": [_point(self.together.at(step)) for step in self.steps],
            "best": _best(self.together),
            "confusion": {"classes": names, "counts": self.confusion.tolist()},
            "errors": {
                cause: {"count": self.errors.count(cause), "ap50": or_none(cost)}
                for cause, cost in self.errors.costs.items()
            },
            "calibration": {
                "error": or_none(calibration_error(self.bins)),
                "bins": [
                    {
                        "low": score_bin.low,
                        "high": score_bin.high,
                        "detections": score_bin.detections,
                        "score": or_none(score_bin.score),
                        "right": or_none(score_bin.right),
                    }
                    for score_bin in self.bins
                ],
            },
            "parts": {
                title: [
                    {"name": part.name, "objects": part.objects, "AP": or_none(part.ap), "AP50": or_none(part.ap50)}
                    for part in parts
                ]
                for title, parts in self.parts.items()
            },
            "AP_by_detections": {name: or_none(value) for name, value in self.by_limit.items()},
            "per_picture": self.rows(),
            "mistakes": [self.told(mistake) for mistake in self.mistakes],
            "hits": hits_to_json(self.matches.hits()),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One for each picture, in the data set's order."""
        numbers = zip(self.dataset.records, *(each.tolist() for each in self._counts()), strict=True)
        return [
            {
                "file": str(record.path),
                "id": record.id,
                "objects": found + missed,
                "found": found,
                "missed": missed,
                "invented": invented,
                "f1": or_none(Point(self.threshold, found, invented, missed).f1),
            }
            for record, found, missed, invented in numbers
        ]

    def _counts(self) -> tuple[Array, Array, Array]:
        return self.pictures.found, self.pictures.missed, self.pictures.invented

    def told(self, mistake: Mistake) -> dict[str, Any]:
        """A mistake in plain values; boxes are x1, y1, x2, y2 in pixels."""
        ranking, objects, d, g = self.matches.ranking, self.matches.objects, mistake.detection, mistake.shown
        record, names = self.dataset.records[ranking.pictures[d]], self.dataset.class_names
        beside = {} if g < 0 else {"object": {"class": names[objects.labels[g]], "box": _corners(objects.boxes[g])}}
        return {
            "file": str(record.path),
            "id": record.id,
            "class": names[ranking.labels[d]],
            "score": round(float(ranking.scores[d]), 6),
            "box": _corners(ranking.boxes[d]),
            "cause": mistake.cause,
            **beside,
        }


def analyse(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    probabilities: bool,
    min_score: float,
    report: Report = silent,
) -> Analysis:
    """What went right and wrong in an evaluation, whose detections are taken.

    Args:
        dataset: that it was made on.
        probabilities: whether scores are; those of R-CNN's SVMs are not.
        min_score: the threshold to suggest where no other one can be found.
    """
    matches = area_matches(evaluation.detections, dataset)
    ranking, objects = matches.ranking, matches.objects
    sweeps = [Sweep.of(matches, label) for label in range(len(dataset.class_names))]
    together = Sweep.of(matches)
    best = together.best("best F1")
    threshold = best.threshold if best else min_score
    hits = matches.hits()
    intervals, class_intervals = _intervals(evaluation, dataset, matches, report)
    parts = {"size": _parts(matches, dataset)[1:]}
    for title, strata in (
        ("crowding", by_crowding(ranking, objects, dataset)),
        ("place", by_place(ranking, objects, dataset)),
    ):
        parts[title] = _parts(match(ranking, objects, dataset, strata), dataset) if strata.names else []
    errors = find_errors(matches, dataset)
    return Analysis(
        evaluation=evaluation,
        dataset=dataset,
        matches=matches,
        intervals=intervals,
        class_intervals=class_intervals,
        together=together,
        sweeps=sweeps,
        threshold=threshold,
        confusion=confusion(matches, dataset, threshold),
        errors=errors,
        bins=calibration(matches) if probabilities else [],
        parts=parts,
        by_limit={str(most or "all"): known_mean(hits.ap(most)) for most in (*LIMITS, None)},
        pictures=_pictures(matches, threshold),
        mistakes=_confident(matches, errors),
    )


def _intervals(
    evaluation: Evaluation, dataset: Dataset, matches: Matches, report: Report
) -> tuple[dict[str, Interval], dict[int, Interval]]:
    strata = [matches.hits(stratum) for stratum in range(len(AREAS))]
    voc = voc_hits(evaluation.detections, [record.targets for record in dataset.records], dataset.class_names)

    def numbers(weights: Floats) -> dict[str | int, float]:
        values: dict[str | int, float] = dict(coco_numbers(strata, evaluation.crowded, weights).items())
        curves = [each.curve(weights) for each in voc if each.npos @ weights]
        values["voc_11"] = known_mean(np.array([average_precision_11(*curve) for curve in curves]))
        values["voc_area"] = known_mean(np.array([average_precision_area(*curve) for curve in curves]))
        return values | dict(enumerate(strata[0].ap(MAXIMUM, weights).mean(axis=0).tolist()))

    found = intervals(numbers, len(dataset), report=report)
    named = {key: interval for key, interval in found.items() if isinstance(key, str)}
    return named, {key: interval for key, interval in found.items() if isinstance(key, int)}


def _parts(matches: Matches, dataset: Dataset) -> list[Part]:
    parts = []
    for stratum, name in enumerate(matches.strata.names):
        hits = matches.hits(stratum)
        ap = hits.ap(MAXIMUM)
        parts.append(Part(name, len(hits.object_labels), known_mean(ap), known_mean(ap[0])))
    return parts


def _pictures(matches: Matches, threshold: float) -> Pictures:
    ranking, objects, number = matches.ranking, matches.objects, matches.size[0]
    hit, ignored = hits_of(matches)
    shown = (ranking.scores >= threshold) & ~ignored
    found = np.bincount(ranking.pictures[shown & (hit >= 0)], minlength=number)
    invented = np.bincount(ranking.pictures[shown & (hit < 0)], minlength=number)
    real = np.bincount(objects.pictures[~objects.crowd], minlength=number)
    return Pictures(found, real - found, invented)


def _confident(matches: Matches, errors: Errors) -> list[Mistake]:
    """The mistakes with the highest scores, without duplicates, in which nothing is wrong with the annotation."""
    causes = list(CAUSES)
    some = np.flatnonzero((errors.causes >= 0) & (errors.causes != causes.index("duplicate")))
    some = some[np.argsort(-matches.ranking.scores[some], kind="stable")][:CONFIDENT]
    return [Mistake(int(d), causes[errors.causes[d]], int(errors.shown[d])) for d in some]


def hits_to_json(hits: Hits) -> dict[str, Any]:
    """As plain values; `hits_from_json` is the way back."""
    bits = 1 << np.arange(len(hits.outcomes))
    masks = np.zeros((2, len(hits.pictures)), dtype=np.int64)
    masks[0, hits.near], masks[1, hits.near] = bits @ (hits.outcomes > 0), bits @ (hits.outcomes < 0)
    return {
        "thresholds": len(hits.outcomes),
        "pictures": hits.pictures.tolist(),
        "labels": hits.labels.tolist(),
        "scores": hits.scores.astype(np.float32).tolist(),
        "hit": masks[0].tolist(),
        "ignored": masks[1].tolist() if masks[1].any() else [],
        "objects": {"pictures": hits.object_pictures.tolist(), "labels": hits.object_labels.tolist()},
    }


def hits_from_json(values: Mapping[str, Any], size: tuple[int, int]) -> Hits:
    """Raises KeyError, TypeError or ValueError where it is something else."""
    number = len(values["pictures"])
    masks = np.array([values["hit"], values["ignored"] or [0] * number], dtype=np.int64).reshape(2, number)
    near = np.flatnonzero(masks.any(axis=0))
    hit, ignored = (masks[:, None, near] >> np.arange(values["thresholds"])[:, None]) & 1
    pictures, labels = (np.array(values[name], dtype=np.int64) for name in ("pictures", "labels"))
    return Hits(
        pictures,
        labels,
        np.array(values["scores"], dtype=np.float64),
        ranks(labels * size[0] + pictures),
        np.ones(number, dtype=bool),
        near,
        (hit - ignored).astype(np.int8),
        np.array(values["objects"]["pictures"], dtype=np.int64),
        np.array(values["objects"]["labels"], dtype=np.int64),
        size,
    )


def _pair(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval[0]) else list(interval)


def _point(point: Point) -> dict[str, Any]:
    return {
        "threshold": point.threshold,
        "found": point.found,
        "missed": point.missed,
        "invented": point.invented,
        "precision": or_none(point.precision),
        "recall": or_none(point.recall),
        "f1": or_none(point.f1),
    }


def _best(sweep: Sweep) -> dict[str, Any]:
    points = {use: sweep.best(use) for use in USES}
    return {use: None if point is None else _point(point) for use, point in points.items()}


def _tensor(boxes: Floats) -> Tensor:
    """(N, 4) x, y, width, height → float32 xyxy."""
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)).float()


def _corners(box: Floats) -> list[float]:
    """x, y, width, height → x1, y1, x2, y2."""
    x, y, width, height = box.tolist()
    return [round(value, 2) for value in (x, y, x + width, y + height)]
