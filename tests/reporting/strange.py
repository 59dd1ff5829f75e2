"""An evaluation whose classes and pictures have the worst of names."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rcnnkit.data.records import Dataset, Record
from rcnnkit.evaluation.analysis import Analysis, analyse
from rcnnkit.evaluation.report import Found, judge
from rcnnkit.structures import Detections, Targets

CLASSES = ("<script>alert(1)</script>", "\"quoted' & $x^2$", "\u202eשלום", "cat 🐈")
FILES = ('a"><script>alert(2)<b>🐈', "\u202eb", "c'&amp;", "d", "e", "f")


def strange(folder: Path) -> Dataset:
    """Six pictures of 96 pixels; the last one is empty."""
    rng = np.random.default_rng(0)
    records = []
    for i, name in enumerate(FILES):
        path = folder / f"{name.replace('/', '')}.png"
        Image.fromarray(rng.integers(0, 255, (96, 120, 3), dtype=np.uint8)).save(path)
        number = 4 * (i < 5)
        corners = torch.from_numpy(rng.integers(0, 60, (number, 2))).float()
        boxes = torch.cat([corners, corners + torch.from_numpy(rng.integers(12, 36, (number, 2)))], dim=1)
        records.append(Record(f"p{i}", path, (96, 120), Targets(boxes, torch.arange(number) % 4)))
    return Dataset("strange/val", records, CLASSES, (1, 2, 3, 4))


def detections_of(dataset: Dataset, shift: float = 6.0, seed: int = 1) -> list[Detections]:
    """Some right, some shifted, some of another class, some where nothing is."""
    rng = np.random.default_rng(seed)
    found = []
    for record in dataset.records:
        boxes = torch.cat([record.targets.boxes, record.targets.boxes[:2], torch.tensor([[70.0, 70.0, 90.0, 95.0]])])
        boxes[:, 2:] += torch.from_numpy(rng.uniform(0, shift, (len(boxes), 2))).float()
        labels = torch.cat([record.targets.labels, (record.targets.labels[:2] + 1) % 4, torch.tensor([2])])
        scores = torch.from_numpy(rng.random(len(boxes))).float()
        found.append(Detections(boxes, scores, labels, CLASSES))
    return found


def analysed(dataset: Dataset, detections: list[Detections], probabilities: bool = True) -> Analysis:
    result = judge([Found(dict(enumerate(detections)), [1.0])], dataset)
    return analyse(result, dataset, probabilities=probabilities, min_score=0.5)
