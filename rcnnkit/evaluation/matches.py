"""Which detection hits which object, by the rules of COCO's evaluation, for all pictures at once.

Within a picture and a class the best detection comes first. Each one takes the object that it overlaps most, among
those that no better one has taken, if their IoU reaches the threshold; of equal ones the last. Some objects are to be
ignored: crowds, and those outside the stratum, such as a range of areas. One of them is taken only where no other
object can be, and the detection then counts neither way. A crowd can be taken many times, and its IoU is the share of
the detection inside it. A detection that takes nothing is a mistake, unless it is outside the stratum itself.

A matching depends on better detections alone, so one matching serves every limit of detections.

Source: pycocotools' COCOeval.evaluateImg and accumulate, iouType "bbox".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.classes import in_classes
from rcnnkit.structures import Array, Detections

Floats = npt.NDArray[np.float64]
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU
RECALLS = np.linspace(0, 1, 101)  # at which the curve is read
AREAS = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}  # pixels, both included
PAIRS = 2**18  # that are compared at a time


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """All G objects of a data set, picture by picture."""

    pictures: Array  # (G,) the place of its picture in the data set
    labels: Array  # (G,)
    boxes: Floats  # (G, 4) x, y, width, height, pixels
    areas: Floats  # (G,) pixels
    crowd: Array  # (G,) bool

    @classmethod
    def of(cls, dataset: Dataset) -> Objects:
        targets = [dataset.records[i].targets.to("cpu") for i in _order(dataset)]
        return cls(
            _repeated(_order(dataset), targets),
            _joined([target.labels.numpy() for target in targets], np.int64),
            _corner_and_sides(_joined([target.boxes.numpy() for target in targets], np.float64)),
            _joined([target.areas.numpy() for target in targets], np.float64),
            _joined([target.crowd.numpy() for target in targets], np.bool_),
        )

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """All D detections of a data set: class by class, best first, equal ones in the order of the pictures."""

    pictures: Array  # (D,) the place of its picture in the data set
    labels: Array  # (D,)
    boxes: Floats  # (D, 4) x, y, width, height, pixels
    scores: Floats  # (D,)

    @classmethod
    def of(cls, detections: Sequence[Detections], dataset: Dataset) -> Ranking:
        """Raises ValueError where there is not one for each picture, or they do not fit the classes (`in_classes`)."""
        if len(detections) != len(dataset):
            raise ValueError(
                f"{len(detections)} pictures with detections but {dataset.name} has {len(dataset)};"
                " give one per picture"
            )
        answers = [in_classes(detections[i], dataset.class_names) for i in _order(dataset)]
        pictures = _repeated(_order(dataset), answers)
        labels = _joined([each.labels.numpy() for each in answers], np.int64)
        scores = _joined([each.scores.numpy() for each in answers], np.float64)
        boxes = _joined([each.boxes.numpy() for each in answers], np.float64)
        order = np.lexsort((-scores, labels))  # stable
        return cls(pictures[order], labels[order], _corner_and_sides(boxes[order]), scores[order])

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def areas(self) -> Floats:
        """(D,) pixels."""
        return self.boxes[:, 2] * self.boxes[:, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Parts of the objects and detections, each of which is evaluated by itself; they may overlap."""

    names: Sequence[str]  # S
    objects: Array  # (S, G) bool: it is in
    detections: Array  # (S, D) bool


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What average precision is made of, at T thresholds of IoU: D detections as in a `Ranking`, and G objects."""

    pictures: Array  # (D,)
    labels: Array  # (D,)
    scores: Floats  # (D,)
    ranks: Array  # (D,) its place among those of its picture and class, the best first
    counted: Array  # (D,) bool: it is a mistake where it takes no object
    near: Array  # (C,) the detections that may take one, ascending
    outcomes: Array  # (T, C) of these: 1, it hits; 0, it takes nothing; -1, it counts neither way
    object_pictures: Array  # (G,) of the objects that are to be found
    object_labels: Array  # (G,)
    size: tuple[int, int]  # pictures P, classes K

    def curves(self, most: int | None = None, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Precision at RECALLS, (T, R, K), and the highest recall, (T, K); NaN for a class without objects.

        Args:
            most: detections of a picture and class that are looked at; None: all.
            weights: (P,) how often each picture counts, in whole numbers; each once by default.
        """
        pictures, classes = self.size
        weights = np.ones(pictures) if weights is None else weights
        precision = np.full((len(self.outcomes), len(RECALLS), classes), np.nan)
        recall = np.full((len(self.outcomes), classes), np.nan)
        objects = np.bincount(self.object_labels, weights[self.object_pictures], minlength=classes)
        weight = weights[self.pictures]
        if most is not None:
            weight = weight * (self.ranks < most)
        mistakes = weight * self.counted  # if it took nothing
        bounds = np.searchsorted(self.labels, np.arange(classes + 1))
        near_bounds = np.searchsorted(self.near, bounds)
        for k in np.flatnonzero(objects > 0):
            precision[:, :, k], recall[:, k] = 0, 0
            some = slice(near_bounds[k], near_bounds[k + 1])
            near, outcomes = self.near[some], self.outcomes[:, some]
            if not len(near):
                continue
            # Between two hits precision falls and recall stays, so no other detections are needed for the curve.
            hits = np.cumsum((outcomes > 0) * weight[near], axis=1)
            changes = np.where(outcomes != 0, (outcomes > 0) * weight[near] - mistakes[near], 0)
            looked_at = np.cumsum(mistakes[bounds[k] : bounds[k + 1]])[near - bounds[k]] + np.cumsum(changes, axis=1)
            envelope = hits / (looked_at + np.spacing(1))
            envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
            recall[:, k] = hits[:, -1] / objects[k]
            # All thresholds are searched at once: their hits lie one after the other, and are whole numbers.
            apart = (objects[k] + 2) * np.arange(len(hits))[:, None]
            places = np.searchsorted((hits + apart).ravel(), (hits_needed(objects[k]) + apart).ravel())
            places = places.reshape(len(hits), -1) - len(near) * np.arange(len(hits))[:, None]
            reached = np.take_along_axis(envelope, np.minimum(places, len(near) - 1), axis=1)
            precision[:, :, k] = np.where(places < len(near), reached, 0)
        return precision, recall

    def ap(self, most: int | None = None, weights: Floats | None = None) -> Floats:
        """(T, K) average precision; NaN for a class without objects. Arguments as of `curves`."""
        return self.curves(most, weights)[0].mean(axis=1)


def hits_needed(objects: float) -> Floats:
    """(R,) the fewest hits with which the recall, hits / objects, is at least each of RECALLS, as floats divide."""
    needed = np.ceil(RECALLS * objects)
    needed -= (needed - 1) / objects >= RECALLS
    return needed + (needed / objects < RECALLS)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What was matched at T thresholds of IoU in S strata."""

    ranking: Ranking
    objects: Objects
    strata: Strata
    thresholds: Floats  # (T,)
    near: Array  # (C,) the detections that overlap an object of their class enough for the lowest threshold, ascending
    taken: Array  # (T, S, C) which object each of these took; -1: none
    size: tuple[int, int]  # pictures P, classes K

    def hits(self, stratum: int = 0) -> Hits:
        """Of one of the strata, by its place."""
        ranking, objects_taken = self.ranking, self.taken[:, stratum]
        relevant = self.strata.objects[stratum] & ~self.objects.crowd
        outcomes = np.zeros(objects_taken.shape, dtype=np.int8)
        some = objects_taken >= 0
        outcomes[some] = np.where(relevant[objects_taken[some]], 1, -1)
        return Hits(
            ranking.pictures,
            ranking.labels,
            ranking.scores,
            ranks(ranking.labels * self.size[0] + ranking.pictures),
            self.strata.detections[stratum],
            self.near,
            outcomes,
            self.objects.pictures[relevant],
            self.objects.labels[relevant],
            self.size,
        )


def match(
    ranking: Ranking, objects: Objects, dataset: Dataset, strata: Strata, thresholds: Floats = THRESHOLDS
) -> Matches:
    """The matching of `dataset`'s detections and objects in each of the strata.

    Args:
        thresholds: (T,) ascending, above 0.
    """
    parts = list(overlaps(ranking, objects, dataset, thresholds[0], same_class=True))
    detection, obj, iou = (np.concatenate([part[i] for part in parts]) for i in range(3))
    ignored = objects.crowd | ~strata.objects

    near = np.unique(detection)
    # The n-th of the near detections of a picture and class is looked at in the n-th turn, all pictures at once.
    turns = np.zeros(len(ranking), dtype=np.int64)
    turns[near] = ranks(ranking.labels[near] * len(dataset) + ranking.pictures[near])
    order = np.lexsort((obj, iou, detection, turns[detection]))  # of a detection the best object comes last
    detection, obj, iou = detection[order], obj[order], iou[order]
    preference = np.arange(len(obj)) + len(obj) * ~ignored[:, obj]  # (S, pairs): first of all what is not ignored
    enough = iou >= np.minimum(thresholds, 1 - 1e-10)[:, None]  # (T, pairs)

    assignment = np.full((len(thresholds), len(strata.names), len(near)), -1, dtype=np.int32)
    free = np.ones((len(thresholds), len(strata.names), len(objects)), dtype=bool)
    ends = np.flatnonzero(np.diff(turns[detection], append=-1)) + 1
    for start, end in pairwise([0, *ends]):
        current, rivals = detection[start:end], obj[start:end]
        possible = enough[:, None, start:end] & (free[:, :, rivals] | objects.crowd[rivals])
        starts = np.flatnonzero(np.diff(current, prepend=-1))
        best = np.maximum.reduceat(np.where(possible, preference[:, start:end], -1), starts, axis=2)
        objects_taken = np.where(best >= 0, obj[best % len(obj)], -1)
        assignment[:, :, np.searchsorted(near, current[starts])] = objects_taken
        t, s, d = np.nonzero(objects_taken >= 0)
        free[t, s, objects_taken[t, s, d]] = False
    return Matches(ranking, objects, strata, thresholds, near, assignment, (len(dataset), len(dataset.class_names)))


def by_area(ranking: Ranking, objects: Objects) -> Strata:
    """COCO's strata: all, small, medium and large."""
    low, high = np.array(list(AREAS.values()), dtype=np.float64).T[:, :, None]
    inside = [(low <= areas) & (areas <= high) for areas in (objects.areas, ranking.areas)]
    return Strata(tuple(AREAS), *inside)


def overlaps(
    ranking: Ranking, objects: Objects, dataset: Dataset, least: float, *, same_class: bool
) -> Iterator[tuple[Array, Array, Floats]]:
    """Detections and objects of one picture whose IoU is at least `least`, in parts: their numbers and the IoU.

    Args:
        same_class: False compares them whatever their classes are.
    """
    detection_keys, object_keys = ranking.pictures, objects.pictures
    if same_class:
        detection_keys = detection_keys + ranking.labels * len(dataset)
        object_keys = object_keys + objects.labels * len(dataset)
    order = np.argsort(object_keys, kind="stable")
    first = np.searchsorted(object_keys[order], detection_keys)
    counts = np.searchsorted(object_keys[order], detection_keys, side="right") - first
    ends = np.cumsum(counts)
    yield np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    start = 0
    while start < len(detection_keys):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS, side="right")))
        part_counts = counts[start:stop]
        detection = np.repeat(np.arange(start, stop), part_counts)
        within = np.arange(len(detection)) - np.repeat(ends[start:stop] - part_counts - before, part_counts)
        obj = order[np.repeat(first[start:stop], part_counts) + within]
        iou = _iou(ranking.boxes[detection], objects.boxes[obj], objects.crowd[obj])
        enough = iou >= least
        yield detection[enough], obj[enough], iou[enough]
        start = stop


def known_mean(values: Floats) -> float:
    """Of what is not NaN, such as the figures of the classes that have objects; NaN where nothing is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _iou(detections: Floats, boxes: Floats, crowd: Array) -> Floats:
    """Row by row, as pycocotools computes it: an IoU on a threshold falls on the same side."""
    low = np.maximum(detections[:, :2], boxes[:, :2])
    high = np.minimum(detections[:, 2:] + detections[:, :2], boxes[:, 2:] + boxes[:, :2])
    sides = np.maximum(high - low, 0)
    intersection = sides[:, 0] * sides[:, 1]
    area = detections[:, 2] * detections[:, 3]
    union = np.where(crowd, area, area + boxes[:, 2] * boxes[:, 3] - intersection)
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)


def _order(dataset: Dataset) -> list[int]:
    """The pictures by COCO's ids, if they have them, as pycocotools goes through them; equal scores keep this order."""
    ids = [record.id for record in dataset.records]
    numbers = [each for each in ids if isinstance(each, int)]
    if len(set(numbers)) == len(ids):
        return sorted(range(len(ids)), key=numbers.__getitem__)
    return list(range(len(ids)))


def _repeated(pictures: Sequence[int], parts: Sequence[Sized]) -> Array:
    """Each picture as often as it has things."""
    return np.repeat(np.array(pictures, dtype=np.int64), np.array([len(each) for each in parts], dtype=np.int64))


def ranks(groups: Array) -> Array:
    """How many came before each in its group."""
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    starts = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
    before = np.empty(len(groups), dtype=np.int64)
    before[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return before


def _joined(parts: Sequence[Array], kind: npt.DTypeLike) -> Array:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, dtype=kind)


def _corner_and_sides(boxes: Floats) -> Floats:
    """x1, y1, x2, y2 → x, y, width, height."""
    boxes = boxes.reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
