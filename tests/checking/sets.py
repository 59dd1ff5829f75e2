"""Data sets that are in memory alone."""

from collections.abc import Sequence
from pathlib import Path

import torch

from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Size, Targets

Thing = tuple[tuple[float, float, float, float], int]  # box and label


def data_set(
    pictures: Sequence[Sequence[Thing]], names: Sequence[str] = ("cat", "dog"), size: Size = (100, 200)
) -> Dataset:
    """Pictures p0.jpg, p1.jpg, … with these objects."""
    records = []
    for i, things in enumerate(pictures):
        boxes = torch.tensor([box for box, _ in things], dtype=torch.float32).reshape(-1, 4)
        targets = Targets(boxes, torch.tensor([label for _, label in things], dtype=torch.int64))
        records.append(Record(i, Path(f"p{i}.jpg"), size, targets))
    return Dataset("set/train", records, list(names), list(range(1, len(names) + 1)))
