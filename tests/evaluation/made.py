"""Made detections and objects, for several tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Detections, Targets


def made(seed: int, pictures: int = 30, classes: int = 5) -> tuple[list[Detections], Dataset]:
    """Ties of scores and of IoUs, crowds, empty pictures and classes, areas at COCO's borders."""
    rng = np.random.default_rng(seed)
    records, found = [], []
    for i in rng.permutation(1000)[:pictures]:
        number, stray = rng.integers(0, 9), rng.integers(0, 6)
        corners = rng.integers(0, 120, (number, 2))
        sides = rng.choice([4, 16, 31, 32, 33, 48, 64, 95, 96, 97], (number, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        areas = rng.choice([0.5, 1], number) * sides.prod(axis=1)
        border = rng.random(number) < 0.2
        areas[border] = rng.choice([32.0**2, 96.0**2], border.sum())
        labels = rng.integers(0, classes - 1, number)  # nothing is of the last class
        shift = rng.integers(-3, 4, (2 * number, 4)) * rng.choice([0, 1, 4], (2 * number, 1))
        near = np.concatenate([boxes, boxes]) + shift
        corners = rng.integers(0, 150, (stray, 2))
        both = np.concatenate([near, np.concatenate([corners, corners + rng.integers(1, 120, (stray, 2))], axis=1)])
        both[:, 2:] = np.maximum(both[:, 2:], both[:, :2] + 1)
        both = both[: len(both) * (rng.random() < 0.9)]
        guessed = np.concatenate([labels, labels, rng.integers(0, classes, stray)])[: len(both)]
        guessed = np.where(rng.random(len(both)) < 0.15, rng.integers(0, classes, len(both)), guessed)
        scores = rng.integers(0, 12, len(both)) / 16
        targets = Targets(
            torch.from_numpy(boxes).float(),
            torch.from_numpy(labels),
            crowd=torch.from_numpy(rng.random(number) < 0.15),
            areas=torch.from_numpy(areas).float(),
        )
        records.append(Record(int(i), Path(f"{i}.jpg"), (300, 300), targets))
        found.append(
            Detections(torch.from_numpy(both).float(), torch.from_numpy(scores).float(), torch.from_numpy(guessed))
        )
    return found, Dataset("made", records, [f"c{k}" for k in range(classes)], list(range(1, classes + 1)))


def without_ties(detections: list[Detections], seed: int = 0) -> list[Detections]:
    rng = np.random.default_rng(seed)
    return [replace(each, scores=torch.from_numpy(rng.random(len(each))).float()) for each in detections]


def without_crowds(dataset: Dataset) -> Dataset:
    records = [
        replace(each, targets=replace(each.targets, crowd=torch.zeros(len(each.targets), dtype=torch.bool)))
        for each in dataset.records
    ]
    return replace(dataset, records=records)
