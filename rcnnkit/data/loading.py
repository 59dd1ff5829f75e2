"""Batches of training pictures, without end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rcnnkit.data.records import Record
from rcnnkit.data.transforms import NO_PROPOSALS, Augmentation
from rcnnkit.images import Preprocessing, read_picture
from rcnnkit.proposals.store import Store
from rcnnkit.structures import ImageBatch, Proposals, Size, Targets

Draw = tuple[int, int]  # which record, and the seed of its augmentation


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pictures of similar shape, as the workers hand them over."""

    pictures: Sequence[Tensor]  # (3, h, w) uint8 each
    sizes: Sequence[Size]  # on disk
    targets: Sequence[Targets]  # in the pixels of `pictures`
    paths: Sequence[Path]
    proposals: Sequence[Proposals] = ()  # in the pixels of `pictures`, where they were made beforehand

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[ImageBatch, list[Targets]]:
        images = preprocessing.batch(self.pictures, self.sizes, device)
        images = replace(images, proposals=[proposal.to(device) for proposal in self.proposals])
        return images, [target.to(device) for target in self.targets]


def draws(records: Sequence[Record], batch: int, seed: int) -> Iterator[list[Draw]]:
    """Batches of pictures that are all wide or all tall, so that little is spent on padding.

    Every record comes once an epoch; what does not fill a batch opens the next epoch.
    The order depends on `seed` alone, so skipping the first n batches continues a run.

    Raises:
        ValueError: there are no records.
    """
    if not records:
        raise ValueError("there are no pictures to draw from")
    wide: list[Draw] = []
    tall: list[Draw] = []
    rng = np.random.default_rng(seed)
    while True:
        for index in rng.permutation(len(records)).tolist():
            height, width = records[index].size
            group = wide if width >= height else tall
            group.append((index, int(rng.integers(2**31))))
            if len(group) == batch:
                yield group.copy()
                group.clear()


Sample = tuple[Tensor, Size, Targets, Path, Proposals]
Unreadable = (OSError, ValueError)  # what `read_picture` raises


class _Pictures(TorchDataset[Sample | Exception]):
    def __init__(
        self,
        records: Sequence[Record],
        augmentation: Augmentation,
        use_difficult: bool,
        store: Store | None,
        count: int,
    ) -> None:
        self.records, self.augmentation, self.use_difficult = records, augmentation, use_difficult
        self.store, self.count = store, count

    def __getitem__(self, draw: Draw) -> Sample | Exception:
        index, seed = draw
        record = self.records[index]
        targets = record.targets
        if not self.use_difficult:
            targets = targets[~targets.difficult]
        try:
            picture = read_picture(record.path, record.size, checked=True)
            proposals = (
                self.store.read(record.id, record.size, record.path)[: self.count] if self.store else NO_PROPOSALS
            )
        except Unreadable as error:  # raised in the main process, without a worker's stack around it
            return error
        pixels, targets, proposals = self.augmentation(picture, targets, seed, proposals)
        return pixels, record.size, targets, record.path, proposals


def _first_error_or(collate: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    return next((sample for sample in samples if isinstance(sample, Exception)), None) or collate(samples)


def _collate(samples: list[Sample]) -> tuple[Any, ...]:
    pictures, sizes, targets, paths, proposals = zip(*samples, strict=True)
    return pictures, sizes, [_arrays(each) for each in targets], paths, [_arrays(each) for each in proposals]


def _arrays(piece: Targets | Proposals) -> dict[str, np.ndarray]:
    """Every tensor that crosses to another process holds a file open there; arrays do not."""
    return {f.name: getattr(piece, f.name).numpy() for f in fields(piece) if f.init}


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # the processes are the threads
    for number in (signal.SIGINT, signal.SIGTERM):  # these are for the loop, which ends its workers
        signal.signal(number, signal.SIG_IGN)


def read_ahead(
    source: TorchDataset[Any],
    drawn: Iterator[list[Draw]],
    collate: Callable[[list[Any]], Any],
    *,
    start: int,
    workers: int,
    seed: int,
) -> Iterator[Any]:
    """What `collate` makes of each of the batches `drawn`, from the `start`-th on; see `load_batches`.

    Raises:
        Exception: one that `source` answered with in place of a picture.
    """
    if workers < 0:
        workers = min(8, os.cpu_count() or 1)
    # Forked workers share the records; spawned ones would be sent a copy of every tensor in them.
    context = "fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None
    loader = DataLoader(
        source,
        batch_sampler=islice(drawn, start, None),
        num_workers=workers,
        collate_fn=partial(_first_error_or, collate),
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        generator=torch.Generator().manual_seed(seed),  # of the workers' seeds; by default the global one
    )
    for item in loader:
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
    workers: int = -1,
    use_difficult: bool = False,
    store: Store | None = None,
    count: int = 2000,
) -> Iterator[Batch]:
    """Augmented batches without end, read by `workers` processes (-1: one a core, at most 8; 0: in this one).

    Args:
        start: how many batches to skip, to continue a run.
        store: proposals of every picture; the best `count` of each come with it.

    Raises:
        ValueError, FileNotFoundError: a picture or its proposals cannot be read; names it.
    """
    source, drawn = _Pictures(records, augmentation, use_difficult, store, count), draws(records, batch, seed)
    for item in read_ahead(source, drawn, _collate, start=start, workers=workers, seed=seed):
        pictures, sizes, arrays, paths, proposals = item
        targets = [Targets(**_tensors(each)) for each in arrays]
        for picture, target in zip(pictures, targets, strict=True):  # which were right when they were read
            target.see((picture.shape[1], picture.shape[2]), max(target.labels.tolist(), default=-1) + 1)
        yield Batch(
            pictures,
            sizes,
            targets,
            paths,
            [Proposals(**_tensors(each)) for each in proposals] if store else (),
        )
