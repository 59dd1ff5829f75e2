"""Batches of training pictures, without end."""

from __future__ import annotations

import math
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

from rcnnkit.data.flat import Record, Records
from rcnnkit.data.rare import endless
from rcnnkit.data.transforms import NO_PROPOSALS, Augmentation
from rcnnkit.images import Preprocessing, read_picture
from rcnnkit.looking import open_annotated
from rcnnkit.processes import map_ahead
from rcnnkit.proposals.store import Store
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, ImageBatch, Proposals, Size, Targets
from rcnnkit.tiles import Part, proposals_in, targets_in, training_part

Draw = tuple[int, int]  # which record, and the seed of its augmentation


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pictures of similar shape, as the workers hand them over."""

    pictures: Sequence[Tensor]  # (3, h, w) uint8 each
    sizes: Sequence[Size]  # on disk, of a large picture those of its tile
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
    is_wide = _wide(Records.of(records).sizes)
    for index in endless(len(records), rng, repeats):
        group = wide if is_wide[index] else tall
        group.append((index, int(rng.integers(2**31))))
        if len(group) == batch:
            yield group.copy()
            group.clear()


def once(records: Sequence[Record], batch: int) -> Iterator[list[Draw]]:
    """Every record once, those of like shape together; the same in every call."""
    height, width = Records.of(records).sizes.T
    order = np.argsort(height / width, kind="stable").tolist()
    for start in range(0, len(order), batch):
        yield [(index, index) for index in order[start : start + batch]]


def largest_draw(records: Sequence[Record], preprocessing: Preprocessing, batch: int) -> tuple[list[Draw], float]:
    """A batch on the largest canvas that `draws` can come to, and the pixels of an average picture's own canvas as a
    share of that one's.

    Raises:
        ValueError: there are no records.
    """
    if not records:
        raise ValueError("there are no pictures to draw from")
    shapes = Records.of(records).sizes
    is_wide = _wide(shapes)
    if preprocessing.tile:
        shapes = np.minimum(shapes, preprocessing.tile)
    all_sizes = list(map(tuple, shapes.tolist()))
    input_size = {size: preprocessing.resized(size) for size in set(all_sizes)}  # many pictures have the same
    largest: tuple[int, list[int]] = (0, [])
    usual = 0.0
    for wide in (True, False):
        group = np.flatnonzero(is_wide == wide).tolist()
        if not group:
            continue
        sizes = {i: input_size[all_sizes[i]] for i in group}
        group.sort(key=lambda i: math.prod(preprocessing.canvas([sizes[i]])), reverse=True)
        if batch > 1:  # one picture's height and another one's width may make the canvas
            group = [max(group, key=lambda i: sizes[i][side]) for side in (0, 1)] + group
        indices = [group[i % len(group)] for i in range(batch)]
        height, width = preprocessing.canvas([sizes[i] for i in indices])
        largest = max(largest, (height * width, indices))
        usual += sum(math.prod(preprocessing.canvas([size])) for size in sizes.values()) / len(records)
    return [(index, 0) for index in largest[1]], usual / largest[0]


def _wide(sizes: Array) -> Array:
    """Which pictures of these heights and widths, (N, 2), are not taller than wide."""
    return sizes[:, 1] >= sizes[:, 0]


Sample = tuple[Tensor, Size, Targets, Path, Proposals]
Made = TypeVar("Made")
Unreadable = (OSError, ValueError)  # what `read_picture` and a pipeline of one's own raise


class Pictures:
    """Augmented pictures with the objects to learn from, which draws are read from.

    Args:
        records: of the pictures.
        augmentation: how they are changed.
        use_difficult: also learn from difficult objects.
        store: proposals of every picture; the best `count` of each, or all, come with it.
    """

    def __init__(
        self,
        records: Sequence[Record],
        augmentation: Augmentation,
        use_difficult: bool,
        store: Store | None = None,
        count: int | None = None,
    ) -> None:
        self.records, self.augmentation, self.use_difficult = records, augmentation, use_difficult
        self.store, self.count = store, count

    def __getitem__(self, draw: Draw) -> Sample | Exception:
        index, seed = draw
        record = self.records[index]
        tiles = np.random.default_rng((seed, 2))  # another stream than those of the augmentation

        def partner(index: int) -> tuple[Array, Targets]:
            return self.read(index, tiles)[:2]

        try:
            picture, targets, part = self.read(index, tiles)
            size = picture.shape[0], picture.shape[1]
            picture, targets = self.augmentation.mix(picture, targets, seed, len(self.records), partner)
            proposals = self.store.read(record.id, record.size, record.path) if self.store else NO_PROPOSALS
            proposals = (proposals if part is None else proposals_in(proposals, part))[: self.count]
            pixels, targets, proposals = self.augmentation(picture, targets, seed, proposals)
        except Unreadable as error:  # raised in the main process, without a worker's stack around it
            return error
        return pixels, size, targets, record.path, proposals

    def read(self, index: int, tiles: np.random.Generator) -> tuple[Array, Targets, Part | None]:
        """A picture as it is on disk, or a random tile of a large one; the objects in it that are learnt from; and
        which part of the picture it is, or None for all of it."""
        record = self.records[index]
        targets = record.targets if self.use_difficult else record.targets[~record.targets.difficult]
        settings = self.augmentation.preprocessing
        if settings.part_size(record.size) == record.size:
            return read_picture(record.path, record.size, checked=True), targets, None
        part = training_part(settings, record.size, targets.boxes[~targets.crowd], tiles)
        picture = open_annotated(record.path, record.size)
        if isinstance(picture, Slide):
            with picture:
                pixels = picture.cut(part)
        else:
            x1, y1, x2, y2 = part
            pixels = picture[y1:y2, x1:x2].copy()  # so that the rest of it need not be kept
        return pixels, targets_in(targets, part), part


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
    batch_draws: Iterator[list[Draw]],
    collate: Callable[[list[Any]], Made],
    *,
    start: int,
    workers: int,
) -> Generator[Made, None, None]:
    """What `collate` makes of each of `batch_draws`, from the `start`-th on; see `load_batches`.

    Raises:
        ChildProcessError: a process that reads was killed.
        Exception: one that `source` answered with in place of a picture.
    """
    if workers < 0:
        workers = min(8, os.cpu_count() or 1)

    def read(draws: list[Draw]) -> Made | Exception:
        samples = [source[draw] for draw in draws]
        return next((each for each in samples if isinstance(each, Exception)), None) or collate(samples)

    batches = islice(batch_draws, start, None)
    advice = "set data.workers lower, which is how many there are"
    ahead = map_ahead(read, batches, workers, "reads pictures", advice)
    with closing(ahead if workers else (read(draws) for draws in batches)) as items:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item


def load_batch(pictures: Pictures, draw: list[Draw]) -> Batch:
    """One batch, read by this process. Errors as of `load_batches`."""
    with closing(load_batches(pictures, iter([draw]), workers=0)) as batches:
        return next(batches)


def load_batches(
    pictures: Pictures, batch_draws: Iterator[list[Draw]], *, start: int = 0, workers: int
) -> Generator[Batch, None, None]:
    """The batches drawn, read by `workers` processes (-1: one a core, at most 8; 0: in this one).

    The processes end when the iterator is closed or forgotten, or this process ends.

    Args:
        pictures: what is read.
        batch_draws: as of `draws` or `once`.
        start: how many batches to skip, to continue a run.

    Raises:
        ChildProcessError: a process that reads was killed.
        ValueError, FileNotFoundError: a picture or its proposals cannot be read; names it.
    """
    with closing(read_ahead(pictures, batch_draws, _collate, start=start, workers=workers)) as batches:
        for batch in batches:
            yield batch if pictures.store else replace(batch, proposals=())
