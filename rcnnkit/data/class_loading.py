"""Batches of training pictures with a class each, without end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rcnnkit.backbones.classifier import SEEN
from rcnnkit.data.class_folders import Example
from rcnnkit.data.loading import Draw, Unreadable, read_ahead
from rcnnkit.data.rare import endless
from rcnnkit.data.transforms import ClassifierAugmentation
from rcnnkit.images import Preprocessing, read_picture
from rcnnkit.structures import Array

Augment = Callable[[Array, int], Tensor]  # a picture (H, W, 3) uint8 RGB and a seed → (3, S, S) uint8
Sample = tuple[Tensor, int, Path]


@dataclass(frozen=True, slots=True, eq=False)
class ClassBatch:
    """Pictures of one size, as the workers hand them over."""

    pictures: Tensor  # (N, 3, S, S) uint8
    labels: Tensor  # (N,) int64
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
        """Normalised pixels and labels."""
        size = (self.pictures.shape[2], self.pictures.shape[3])
        images = preprocessing.batch(list(self.pictures), [size] * len(self.paths), device)
        labels = self.labels.to(device)
        setattr(labels, SEEN, max(self.labels.tolist(), default=-1) + 1)  # they were right when they were read
        return images.pixels, labels


def shuffled(number: int, batch: int, seed: int, repeats: Array | None = None) -> Iterator[list[Draw]]:
    """Batches of so many of `number` pictures, each once an epoch, or as often as `repeats` says; what does not fill
    one opens the next epoch.

    The order depends on `seed` alone, so skipping the first n batches continues a run.
    """
    rng, group = np.random.default_rng(seed), []
    for index in endless(number, rng, repeats):
        group.append((index, int(rng.integers(2**31))))
        if len(group) == batch:
            yield group.copy()
            group.clear()


class _Pictures:
    def __init__(self, records: Sequence[Example], augmentation: Augment) -> None:
        self.records, self.augmentation = records, augmentation

    def __getitem__(self, draw: Draw) -> Sample | Exception:
        index, seed = draw
        record = self.records[index]
        try:
            return self.augmentation(read_picture(record.path, checked=True), seed), record.label, record.path
        except Unreadable as error:  # raised in the main process, without a worker's stack around it
            return error


def _collate(samples: list[Sample]) -> ClassBatch:
    pictures, labels, paths = zip(*samples, strict=True)
    return ClassBatch(torch.stack(pictures), torch.tensor(labels), paths)


def load_class_batch(records: Sequence[Example], augmentation: ClassifierAugmentation, batch: int) -> ClassBatch:
    """A batch of the first pictures, over again where there are fewer. All batches have its shape. Raises as
    `load_class_batches`."""
    source, drawn = _Pictures(records, augmentation), [(i % len(records), 0) for i in range(batch)]
    with closing(read_ahead(source, iter([drawn]), _collate, start=0, workers=0)) as batches:
        return next(batches)


def load_class_batches(
    records: Sequence[Example],
    augmentation: ClassifierAugmentation,
    batch_draws: Iterator[list[Draw]],
    *,
    start: int = 0,
    workers: int,
) -> Generator[ClassBatch, None, None]:
    """The augmented batches drawn, as of `shuffled`; see `rcnnkit.data.loading.load_batches`.

    Raises:
        ChildProcessError: a process that reads was killed.
        ValueError, FileNotFoundError: a picture cannot be read; names it.
    """
    return read_ahead(_Pictures(records, augmentation), batch_draws, _collate, start=start, workers=workers)


def load_each_once(
    records: Sequence[Example],
    see: Callable[[Array], Tensor],
    *,
    batch: int,
    workers: int,
    turns: slice = slice(None),
) -> Generator[ClassBatch, None, None]:
    """Every picture once, in order, without augmentation; errors as of `load_class_batches`.

    Args:
        turns: which of the batches are read.
        see: what a classifier looks at of a picture (H, W, 3) uint8 RGB, (3, S, S) uint8.
    """
    starts = range(0, len(records), batch)[turns]
    drawn = ([(i, i) for i in range(len(records))[start : start + batch]] for start in starts)
    source = _Pictures(records, lambda picture, _: see(picture))
    return read_ahead(source, drawn, _collate, start=0, workers=workers)
