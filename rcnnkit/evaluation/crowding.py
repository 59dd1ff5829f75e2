"""Pictures that hold more objects than a setting lets through, or than COCO's AP looks at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from rcnnkit.data.records import Dataset, Record
from rcnnkit.detectors.detector import Limit
from rcnnkit.evaluation.coco import MAXIMUM, UNCAPPED
from rcnnkit.tiles import ViewSettings, fullest_tile

log = logging.getLogger("rcnnkit")
WHOLE = ViewSettings()  # pictures without tiles


def warn_of_limits(
    dataset: Dataset, limits: Sequence[Limit], fix: Callable[[Limit, int], str], tiles: ViewSettings = WHOLE
) -> None:
    """Log each limit that pictures exceed: how many do, and the most objects in one.

    Args:
        limits: of the detector that is to find the objects, or to learn them.
        fix: what to do about one of them, given the largest number of objects.
        tiles: the detector's; the limits hold for each.
    """
    for limit in limits:
        if limit.most and (found := _exceeding(dataset, limit.most, limit.of_class, tiles)):
            pictures, most, where = found
            log.warning(
                "%s: %s more objects%s%s than %s = %d allows (%s in %s); %s",
                dataset.name,
                f"{pictures:,} of {len(dataset):,} pictures hold{'s' * (pictures == 1)}",
                " of one class" * limit.of_class,
                " in a tile" * (tiles.tile > 0),
                limit.setting,
                limit.most,
                f"{most:,}",
                where,
                fix(limit, most),
            )


def warn_of_cocos_maximum(dataset: Dataset) -> None:
    """Log how many pictures hold more objects of a class than COCO's AP looks at detections."""
    if found := _exceeding(dataset, MAXIMUM, True, WHOLE):
        pictures, most, where = found
        *names, last = UNCAPPED
        log.warning(
            "%s: %s more objects of one class than the %d detections that COCO's AP and AR look at (%s in %s); %s and"
            " %s are of all detections",
            dataset.name,
            f"{pictures:,} of {len(dataset):,} pictures hold{'s' * (pictures == 1)}",
            MAXIMUM,
            f"{most:,}",
            where,
            ", ".join(names),
            last,
        )


def _exceeding(dataset: Dataset, count: int, of_class: bool, tiles: ViewSettings) -> tuple[int, int, str] | None:
    """How many pictures hold more objects in one of their tiles, the most in one, and which one that is."""
    objects = dataset.fullest(of_class)
    for picture in np.flatnonzero(objects > count).tolist() if tiles.tile else []:
        objects[picture] = most_in_a_tile(dataset.records[picture], of_class, tiles)
    pictures = np.flatnonzero(objects > count)
    if not len(pictures):
        return None
    most = int(objects.max())
    where = max(dataset.flat[np.flatnonzero(objects == most)].paths)
    return len(pictures), most, where


def most_in_a_tile(record: Record, of_class: bool, tiles: ViewSettings) -> int:
    """The most objects, or objects of one class, that one tile of a picture shows; crowds are left out."""
    targets = record.targets[~record.targets.crowd]
    groups = [targets.labels == label for label in targets.labels.unique()] if of_class else [slice(None)]
    return max((fullest_tile(targets.boxes[group], record.size, tiles) for group in groups), default=0)
