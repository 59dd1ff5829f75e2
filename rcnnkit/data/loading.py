"""Batches of training pictures, without end."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from rcnnkit.data.rare import endless
from rcnnkit.data.records import Record
from rcnnkit.data.transforms import NO_PROPOSALS, Augmentation
from rcnnkit.images import Preprocessing, read_picture
from rcnnkit.processes import map_ahead
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Array, ImageBatch, Proposals, Size, Targets

Draw = tuple[int, int]  # which record, and the seed of its augmentation


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pictures of similar shape, as the workers hand them over."""

    pictures: Sequence[Tensor]  # (3, h, w) uint8 each
    sizes: Sequence[Size]  # on disk
    targets: Sequence[Targets]  # in the pixels of `pictures`
    paths: Sequence[Path]
    proposals: Sequence[Proposals] = ()  # in the pixels of `pictures`, where they were made beforehand

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[ImageBatch, list[Targets]]:
        images = preprocessing.batch(self.pictures, self.sizes, device)
        images = replace(images, proposals=[proposal.to(device) for proposal in self.proposals])
        return images, [target.to(device) for target in self.targets]


def draws(records: Sequence[Record], batch: int, seed: int, repeats: Array | None = None) -> Iterator[list[Draw]]:
    """Batches of pictures that are all wide or all tall, so that little is spent on padding.

    Every record comes once an epoch, or as often as `repeats` says; what does not fill a batch opens the next epoch.
    The order depends on `seed` alone, so skipping the first n batches continues a run.

    Raises:
        ValueError: there are no records.
    """
    if not records:
        raise ValueError("there are no pictures to draw from")
    wide: list[Draw] = []
    tall: list[Draw] = []
    rng = np.random.default_rng(seed)
    for index in endless(len(records), rng, repeats):
        height, width = records[index].size
        group = wide if width >= height else tall
        group.append((index, int(rng.integers(2**31))))
        if len(group) == batch:
            yield group.copy()
            group.clear()


def once(records: Sequence[Record], batch: int) -> Iterator[list[Draw]]:
    """Every record once, those of like shape together; the same in every call."""
    order = sorted(range(len(records)), key=lambda i: records[i].size[0] / records[i].size[1])
    for start in range(0, len(order), batch):
        yield [(index, index) for index in order[start : start + batch]]


Sample = tuple[Tensor, Size, Targets, Path, Proposals]
Made = TypeVar("Made")
Unreadable = (OSError, ValueError)  # what `read_picture` and a pipeline of one's own raise


class _Pictures:
    def __init__(
        self,
        records: Sequence[Record],
        augmentation: Augmentation,
        use_difficult: bool,
        store: Store | None,
        count: int | None,
    ) -> None:
        self.records, self.augmentation, self.use_difficult = records, augmentation, use_difficult
        self.store, self.count = store, count

    def __getitem__(self, draw: Draw) -> Sample | Exception:
        index, seed = draw
        record = self.records[index]
        try:
            picture, targets = self.augmentation.mix(*self.read(index), seed, len(self.records), self.read)
            proposals = (
                self.store.read(record.id, record.size, record.path)[: self.count] if self.store else NO_PROPOSALS
            )
            pixels, targets, proposals = self.augmentation(picture, targets, seed, proposals)
        except Unreadable as error:  # raised in the main process, without a worker's stack around it
            return error
        return pixels, record.size, targets, record.path, proposals

    def read(self, index: int) -> tuple[Array, Targets]:
        """A picture as it is on disk, and the objects that are learnt from."""
        record = self.records[index]
        targets = record.targets if self.use_difficult else record.targets[~record.targets.difficult]
        return read_picture(record.path, record.size, checked=True), targets


def _collate(samples: list[Sample]) -> Batch:
    pictures, sizes, targets, paths, proposals = zip(*samples, strict=True)
    for picture, target in zip(pictures, targets, strict=True):  # which were right when they were read
        target.see((picture.shape[1], picture.shape[2]), max(target.labels.tolist(), default=-1) + 1)
    return Batch(pictures, sizes, targets, paths, proposals)


class Source(Protocol):
    """What a draw is read from; an exception stands for a picture that cannot be read."""

    def __getitem__(self, draw: Draw) -> Any: ...


def read_ahead(
    source: Source,
    drawn: Iterator[list[Draw]],
    collate: Callable[[list[Any]], Made],
    *,
    start: int,
    workers: int,
) -> Generator[Made, None, None]:
    """What `collate` makes of each of the batches `drawn`, from the `start`-th on; see `load_batches`.

    Raises:
        ChildProcessError: a process that reads was killed.
        Exception: one that `source` answered with in place of a picture.
    """
    if workers < 0:
        workers = min(8, os.cpu_count() or 1)

    def read(draws: list[Draw]) -> Made | Exception:
        samples = [source[draw] for draw in draws]
        return next((each for each in samples if isinstance(each, Exception)), None) or collate(samples)

    coming = islice(drawn, start, None)
    advice = "set data.workers lower, which is how many there are"
    ahead = map_ahead(read, coming, workers, "reads pictures", advice)
    with closing(ahead if workers else (read(draws) for draws in coming)) as items:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item


def load_batches(
    records: Sequence[Record],
    augmentation: Augmentation,
    *,
    batch: int,
    seed: int,
    start: int = 0,
    workers: int,
    use_difficult: bool,
    store: Store | None = None,
    count: int | None = None,
    repeats: Array | None = None,
) -> Generator[Batch, None, None]:
    """Augmented batches without end, read by `workers` processes (-1: one a core, at most 8; 0: in this one).

    The processes end when the iterator is closed or forgotten, or this process ends.

    Args:
        start: how many batches to skip, to continue a run.
        store: proposals of every picture; the best `count` of each, or all, come with it.
        repeats: as of `draws`.

    Raises:
        ChildProcessError: a process that reads was killed.
        ValueError, FileNotFoundError: a picture or its proposals cannot be read; names it.
    """
    drawn = draws(records, batch, seed, repeats)
    return load_drawn(
        records,
        augmentation,
        drawn,
        start=start,
        workers=workers,
        use_difficult=use_difficult,
        store=store,
        count=count,
    )


def load_drawn(
    records: Sequence[Record],
    augmentation: Augmentation,
    drawn: Iterator[list[Draw]],
    *,
    start: int = 0,
    workers: int,
    use_difficult: bool,
    store: Store | None = None,
    count: int | None = None,
) -> Generator[Batch, None, None]:
    """The batches of `drawn`; arguments and errors are those of `load_batches`."""
    source = _Pictures(records, augmentation, use_difficult, store, count)
    with closing(read_ahead(source, drawn, _collate, start=start, workers=workers)) as batches:
        for each in batches:
            yield each if store else replace(each, proposals=())
