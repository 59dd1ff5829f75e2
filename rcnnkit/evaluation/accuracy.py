"""How often a classifier is right: top-1 and top-5 accuracy, class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.data.checks import READERS
from rcnnkit.data.class_folders import ClassFolders, Example
from rcnnkit.evaluation.report import in_eval_mode, or_none
from rcnnkit.images import read_picture
from rcnnkit.precision import autocast, pick_dtype
from rcnnkit.progress import Report, silent


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Of the pictures of one class."""

    name: str
    pictures: int
    top1: float  # share that was called so; NaN without pictures


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """Shares of a data set's pictures."""

    dataset: str  # its name
    pictures: int
    top1: float  # whose own class scored best
    top5: float  # whose own class was among the best five; NaN where there are no more than five
    classes: Sequence[ClassAccuracy]

    @property
    def numbers(self) -> dict[str, float]:
        """`class_mean` weighs classes alike, however many pictures each has."""
        shares = [c.top1 for c in self.classes if c.pictures]
        return {"top1": self.top1, "top5": self.top5, "class_mean": sum(shares) / len(shares)}

    @property
    def headline(self) -> tuple[str, str]:
        """The two of `numbers` that are printed; the first chooses the best weights."""
        return ("top1", "class_mean")

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; fractions, and null (None) where undefined."""
        classes = [{"name": c.name, "pictures": c.pictures, "top1": or_none(c.top1)} for c in self.classes]
        numbers = {name: or_none(value) for name, value in self.numbers.items()}
        return {"dataset": self.dataset, "pictures": self.pictures, **numbers, "classes": classes}


def accuracy(scores: Tensor, labels: Tensor, class_names: Sequence[str], dataset: str) -> Accuracy:
    """Compare scores with labels.

    Args:
        scores: (N, K), higher is better. Of equal ones the class with the lower label goes first.
        labels: (N,) in [0, K).

    Raises:
        ValueError: there is nothing to compare, or a score is not a number.
    """
    if not len(scores):
        raise ValueError(f"{dataset} has no pictures; there is nothing to evaluate")
    if scores.isnan().any():
        raise ValueError("a score is not a number; such a run cannot be evaluated")
    order = scores.argsort(dim=1, descending=True, stable=True)
    rank = (order == labels[:, None]).int().argmax(dim=1)
    right = rank == 0
    classes = []
    for label, name in enumerate(class_names):
        mine = right[labels == label]
        classes.append(ClassAccuracy(name, len(mine), mine.double().mean().item()))  # of none, NaN
    top5 = (rank < 5).double().mean().item() if len(class_names) > 5 else math.nan
    return Accuracy(dataset, len(scores), right.double().mean().item(), top5, classes)


def evaluate_classifier(
    classifier: Classifier,
    data: ClassFolders,
    *,
    batch_size: int,
    precision: str,
    progress: Report = silent,
) -> Accuracy:
    """Run `classifier` over every picture of `data`, whose classes are its own.

    Args:
        precision: what it computes in, as `rcnnkit.precision.pick_dtype` takes it.

    Raises as `pick_dtype`, `score` and `accuracy`.
    """
    with autocast(classifier.device, pick_dtype(precision, classifier.device)):
        return accuracy_of(score(classifier, data, batch_size=batch_size, progress=progress), data)


def accuracy_of(scores: Sequence[Tensor], data: ClassFolders) -> Accuracy:
    """How good the batches of `score` are. Raises as `accuracy`."""
    labels = torch.tensor([record.label for record in data.records])
    return accuracy(torch.cat(list(scores)) if scores else torch.zeros(0), labels, data.class_names, data.name)


def score(
    classifier: Classifier,
    data: ClassFolders,
    *,
    batch_size: int,
    progress: Report = silent,
    turns: slice = slice(None),
) -> list[Tensor]:
    """The scores (N, K) of `classifier` for the pictures of `data`, batch by batch.

    Args:
        turns: which of the batches are looked at, where other processes look at the others.

    Raises:
        FileNotFoundError, ValueError: a picture cannot be read.
        ValueError: the classes differ.
    """
    if tuple(data.class_names) != classifier.class_names:
        raise ValueError(
            f"{data.name} has the classes {', '.join(data.class_names)}, the classifier knows"
            f" {', '.join(classifier.class_names)}; read the folder with the classifier's class_names"
        )

    def read(record: Example) -> Tensor:
        return classifier.see(read_picture(record.path))

    scores = []
    with in_eval_mode(classifier), torch.no_grad(), ThreadPoolExecutor(READERS) as pool:
        progress(data.name, 0, len(data))
        for start in range(0, len(data), batch_size)[turns]:
            crops = list(pool.map(read, data.records[start : start + batch_size]))
            scores.append(classifier.logits(classifier.pixels(crops)).cpu())
            progress(data.name, start + len(crops), len(data))
    return scores
