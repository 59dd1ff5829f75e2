"""Parts of a data set, each evaluated by itself: by the number of objects in a picture, and by the place in it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.matches import Floats, Objects, Ranking, Strata
from rcnnkit.structures import Array

CROWDING = (1, 2, 5, 10, 25)  # objects from which a picture belongs to the next part
PLACES = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right"))


def by_crowding(ranking: Ranking, objects: Objects, dataset: Dataset) -> Strata:
    """Pictures by the objects in them, of all classes, without crowds; parts without pictures are left out."""
    counts = np.bincount(objects.pictures[~objects.crowd], minlength=len(dataset))
    bounds = [*pairwise(CROWDING), (CROWDING[-1], None)]
    parts = [(low, high, (counts >= low) & (counts < (high or np.inf))) for low, high in bounds]
    parts = [part for part in parts if part[2].any()]
    names = [
        f"{low}" if high == low + 1 else f"{low}–{high - 1}" if high else f"{low} or more" for low, high, _ in parts
    ]
    inside = np.array([part for *_, part in parts], dtype=bool).reshape(len(parts), len(dataset))
    return Strata(names, inside[:, objects.pictures], inside[:, ranking.pictures])


def by_place(ranking: Ranking, objects: Objects, dataset: Dataset) -> Strata:
    """Objects and detections by the ninth of the picture that their centres lie in: PLACES."""
    sizes = np.array([record.size for record in dataset.records], dtype=np.float64).reshape(-1, 2)

    def inside(boxes: Floats, pictures: Array) -> Array:
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        column, row = np.clip((3 * centres / sizes[pictures][:, ::-1]).astype(np.int64), 0, 2).T
        return (3 * row + column)[None] == np.arange(9)[:, None]

    return Strata(PLACES, inside(objects.boxes, objects.pictures), inside(ranking.boxes, ranking.pictures))
