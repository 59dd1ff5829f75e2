"""R-CNN's fine-tuning: a classifier of windows (Girshick et al. 2014, arXiv:1311.2524v5, section 2.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcnnkit.data.records import Dataset
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.images import Preprocessing
from rcnnkit.matching import BACKGROUND, match
from rcnnkit.structures import LossSum
from rcnnkit.training.gradient import seed_of
from rcnnkit.training.optimizers import Part, transformer_parts
from rcnnkit.training.ranks import readers
from rcnnkit.training.run import Run
from rcnnkit.training.schedule import STATED_BATCH, learning_rate
from rcnnkit.training.task import Task
from rcnnkit.training.windows import Pictures, Windows


class FineTuning(Task[Dataset]):
    """Which class a window is of, or none: the network and the classifier on it.

    Args:
        pictures: that windows are cut from.
    """

    things = "windows"
    size_setting = smaller = "rcnn.samples"
    afterwards = "the stages after it"
    keeps_best = False  # SVMs and box regression come first

    def __init__(self, run: Run, detector: RCNN, training: Dataset, pictures: Pictures) -> None:
        super().__init__(run, detector, training, None)
        self.pictures = pictures

    @property
    def whole(self) -> int:
        return self.run.settings.rcnn.samples

    def parts(self) -> Sequence[Part]:
        """The new layer learns faster."""
        layers = [
            (self.model.backbone, self.options.backbone_lr),
            (self.model.score_layer, self.run.settings.rcnn.classifier_lr),
        ]
        return [(list(layer.parameters()), factor) for layer, factor in layers] + transformer_parts(self.model)

    def learning_rate(self, iteration: int) -> float:
        """Stated for a batch of windows: it is not scaled with a number of pictures."""
        return learning_rate(self.options.model_copy(update={"batch": STATED_BATCH}), iteration)

    @property
    def top_rate(self) -> float:
        return self.options.lr_for_16

    def largest_batch(self) -> tuple[Callable[[], WindowBatch], float]:
        """What cuts a batch out, of pictures that are kept decoded where there is room; and 1: all are alike.

        Raises as `batches`.
        """
        pools = Pools(self.model, self.pictures.windows)

        def read() -> WindowBatch:
            with ThreadPoolExecutor(1) as pool:
                return self._begin(self.run.progress.iteration, pools, pool).batch()

        read()
        return read, 1.0

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        sums: dict[str, LossSum] = model.window_loss_sums(inputs, targets)  # the windows were drawn before
        return sums

    def batches(self, start: int) -> Generator[WindowBatch]:
        """Raises ValueError if no window is background; the batches raise what reading a picture raises."""
        return self._batches(Pools(self.model, self.pictures.windows), start)

    def _batches(self, pools: Pools, start: int) -> Generator[WindowBatch]:
        """The next is cut while one is learnt from."""
        workers = readers(self.run.settings.data.workers)
        workers = workers if workers >= 0 else min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(max(1, workers)) as pool:
            following = self._begin(start, pools, pool)
            for iteration in range(start, self.options.iterations):
                current = following
                if iteration + 1 < self.options.iterations:
                    following = self._begin(iteration + 1, pools, pool)
                yield current.batch()

    def _begin(self, iteration: int, pools: Pools, workers: ThreadPoolExecutor) -> Cut:
        """This process's share of a batch, which all draw: windows of one picture lie next to each other."""
        generator = torch.Generator().manual_seed(seed_of(self.options.seed, iteration))
        draws = pools.draw(generator)
        draws = draws[draws[:, 0].argsort(stable=True)]
        augment, share = self.run.settings.augment, self.ranks.share(len(draws))
        flips = [torch.rand(len(draws), generator=generator) < each for each in (augment.flip, augment.flip_vertical)]
        draws, (left_right, upside_down) = draws[share], (each[share] for each in flips)
        pictures, counts = draws[:, 0].unique_consecutive(return_counts=True)
        rows = draws[:, 1].split(counts.tolist())
        jobs = [workers.submit(self.pictures.cut, i, row) for i, row in zip(pictures.tolist(), rows, strict=True)]
        paths = [self.pictures.windows[i].record.path for i in pictures.tolist()]
        return Cut(jobs, draws[:, 2], (left_right, upside_down), paths)


class Pools:
    """Two pools of all pictures' windows, from which batches are drawn with replacement, as released.

    So a batch has 32 objects and 96 backgrounds whatever single pictures hold.
    """

    def __init__(self, detector: RCNN, windows: Sequence[Windows]) -> None:
        options = detector.settings
        foreground, background = [], []
        for i, of_picture in enumerate(windows):
            targets = of_picture.targets
            matched = match(of_picture.boxes, targets, options.foreground_iou, options.foreground_iou)
            rows = torch.stack(
                [torch.full_like(matched, i), torch.arange(len(matched)), detector.label(matched, targets)], dim=1
            ).int()  # tens of millions of them
            foreground.append(rows[matched >= 0])
            background.append(rows[matched == BACKGROUND])
        # (N, 3) each: picture, window, label
        self.foreground, self.background = torch.cat(foreground), torch.cat(background)
        self.count = round(options.samples * options.foreground_share), options.samples
        if not len(self.background):
            raise ValueError(
                f"no window has IoU < rcnn.foreground_iou = {options.foreground_iou:g} with every object, so nothing"
                " shows what background is; give more proposals a picture"
            )

    def draw(self, generator: torch.Generator) -> Tensor:
        """(R, 3) rows of both pools."""
        objects, all_ = self.count
        counts = ((self.foreground, objects), (self.background, all_ - objects))
        return torch.cat([pool[torch.randint(len(pool), (n,), generator=generator)] for pool, n in counts]).long()


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows (R, 3, S, S), normalised, with their labels (R,), and the paths of their pictures."""

    windows: Tensor
    labels: Tensor
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, _: Preprocessing) -> tuple[Tensor, Tensor]:
        return self.windows.to(device), self.labels.to(device)


@dataclass(frozen=True, slots=True)
class Cut:
    """Windows that are being cut; those of a picture together."""

    jobs: Sequence[Future[Tensor]]
    labels: Tensor  # (R,)
    flipped: tuple[Tensor, Tensor]  # (R,) bool each: left to right, upside down
    paths: Sequence[Path]

    def batch(self) -> WindowBatch:
        """The windows, when all are cut. Raises what reading a picture raises."""
        windows = torch.cat([job.result() for job in self.jobs])
        for flipped, axis in zip(self.flipped, (3, 2), strict=True):
            windows = torch.where(flipped[:, None, None, None], windows.flip(axis), windows)
        return WindowBatch(windows, self.labels, self.paths)
