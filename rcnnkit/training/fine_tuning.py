"""R-CNN's fine-tuning: a classifier of windows (Girshick et al. 2014, arXiv:1311.2524v5, section 2.3)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from rcnnkit.config import Settings
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.matching import BACKGROUND, match
from rcnnkit.precision import autocast
from rcnnkit.training.checkpoint import Progress, save_checkpoint
from rcnnkit.training.log import RunLog
from rcnnkit.training.loop import Interrupted, descend, note_scale, start_scaler, stop_signals
from rcnnkit.training.schedule import STATED_BATCH, learning_rate
from rcnnkit.training.windows import Pictures, Windows


def fine_tune(
    detector: RCNN,
    optimizer: torch.optim.SGD,
    progress: Progress,
    pictures: Pictures,
    settings: Settings,
    run: Path,
    console: Console,
    dtype: torch.dtype,
) -> None:
    """Train the network and the classifier on it from `progress` on; leaves run/last.safetensors.

    Raises:
        ValueError: no window is background.
        NonFiniteLoss, Interrupted: as `rcnnkit.training.loop.train`.
    """
    # The learning rate is for a batch of windows: it is not scaled with a number of pictures.
    options = settings.train.model_copy(update={"batch": STATED_BATCH})
    pools = _Pools(detector, pictures.windows)
    flips = (settings.augment.flip, settings.augment.flip_vertical)
    scaler = start_scaler(progress, detector.device, dtype)
    workers = settings.data.workers if settings.data.workers >= 0 else min(8, os.cpu_count() or 1)
    detector.train()
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        RunLog(run, console, options.iterations, progress, "windows") as log,
        stop_signals() as stop,
    ):
        total, seen, clock = 0.0, 0, time.perf_counter()
        for batch in _batches(
            pools, pictures, flips, options.seed, range(progress.iteration, options.iterations), pool
        ):
            try:
                windows = batch.windows()
            except Exception:  # a picture that cannot be decoded; the weights are sound
                save_checkpoint(run, detector, optimizer, settings, progress)
                raise
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(options, progress.iteration) * group["factor"]
            on_gpu = [detector.device] if detector.device.type == "cuda" else []
            with torch.random.fork_rng(devices=on_gpu), autocast(detector.device, dtype):
                torch.manual_seed(_seed(options.seed, progress.iteration))  # of dropout, which knows no other generator
                losses = detector.window_losses(windows.to(detector.device), batch.labels.to(detector.device))
            paths = [pictures.windows[i].record.path for i in batch.pictures]
            values = descend(detector, losses, optimizer, scaler, options, progress.iteration, paths)
            progress.iteration += 1
            total, seen = total + values["loss"], seen + len(windows)
            log.advance()
            last, stopping = progress.iteration == options.iterations, stop.signal
            if progress.iteration % options.log_every == 0 or last or stopping:
                seconds = time.perf_counter() - clock
                progress.seconds += seconds
                log.step(
                    progress.iteration,
                    {
                        "loss": total / (seen / len(windows)),
                        "lr": learning_rate(options, progress.iteration - 1),
                        "batch": len(windows),
                        "windows_per_second": seen / seconds,
                        "seconds": progress.seconds,
                    },
                )
                total, seen, clock = 0.0, 0, time.perf_counter()
            note_scale(scaler, progress)
            if progress.iteration % options.save_every == 0 or last or stopping:
                path = save_checkpoint(run, detector, optimizer, settings, progress)
            if stopping and not last:
                raise Interrupted(path, progress.iteration, stopping)


class _Pools:
    """Two pools of all pictures' windows, from which batches are drawn with replacement, as released.

    So a batch has 32 objects and 96 backgrounds whatever single pictures hold.
    """

    def __init__(self, detector: RCNN, windows: Sequence[Windows]) -> None:
        options = detector.settings
        foreground, background = [], []
        for i, each in enumerate(windows):
            matched = match(each.boxes, each.targets, options.foreground_iou, options.foreground_iou)
            rows = torch.stack(
                [torch.full_like(matched, i), torch.arange(len(matched)), detector.label(matched, each.targets)], dim=1
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
class _Batch:
    """Windows that are being cut; those of a picture together."""

    jobs: Sequence[Future[Tensor]]
    labels: Tensor  # (R,)
    pictures: Sequence[int]
    flipped: tuple[Tensor, Tensor]  # (R,) bool each: left to right, upside down

    def windows(self) -> Tensor:
        """(R, 3, S, S). Raises what reading a picture raises."""
        windows = torch.cat([job.result() for job in self.jobs])
        for flipped, axis in zip(self.flipped, (3, 2), strict=True):
            windows = torch.where(flipped[:, None, None, None], windows.flip(axis), windows)
        return windows


def _batches(
    pools: _Pools,
    pictures: Pictures,
    flips: tuple[float, float],
    seed: int,
    iterations: range,
    workers: ThreadPoolExecutor,
) -> Iterator[_Batch]:
    """A batch for each iteration; the next is cut while one is learnt from."""

    def begin(iteration: int) -> _Batch:
        generator = torch.Generator().manual_seed(_seed(seed, iteration))
        drawn = pools.draw(generator)
        drawn = drawn[drawn[:, 0].argsort(stable=True)]
        used, counts = drawn[:, 0].unique_consecutive(return_counts=True)
        rows = drawn[:, 1].split(counts.tolist())
        jobs = [workers.submit(pictures.cut, i, row) for i, row in zip(used.tolist(), rows, strict=True)]
        left_right, upside_down = (torch.rand(len(drawn), generator=generator) < share for share in flips)
        return _Batch(jobs, drawn[:, 2], used.tolist(), (left_right, upside_down))

    following = begin(iterations.start)
    for iteration in iterations:
        batch = following
        if iteration + 1 < iterations.stop:
            following = begin(iteration + 1)
        yield batch


def _seed(seed: int, iteration: int) -> int:
    """One for each iteration: a resumed run draws what it would have drawn."""
    return seed * 1_000_003 + iteration


def window_sgd(detector: RCNN, settings: Settings) -> torch.optim.SGD:
    """SGD with momentum; the new layer learns faster, and only matrices and convolutions decay."""
    options, groups = settings.train, []
    for parts, factor in ((detector.backbone, 1.0), (detector.score_layer, settings.rcnn.classifier_lr)):
        parameters = [p for p in parts.parameters() if p.requires_grad]
        for matrices in (True, False):
            groups.append(
                {
                    "params": [p for p in parameters if (p.ndim > 1) == matrices],
                    "weight_decay": options.weight_decay if matrices else 0.0,
                    "factor": factor,
                }
            )
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.nesterov)
