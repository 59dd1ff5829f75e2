"""What a training is about to do, and whether it can, before its first iteration: on one screen."""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import torch
from torch import nn

from rcnnkit.data.records import few
from rcnnkit.memory import forget_peak, free_memory, held_memory, peak_memory
from rcnnkit.text import count
from rcnnkit.training.gradient import NonFiniteLoss, gradient
from rcnnkit.training.ranks import ALONE
from rcnnkit.training.run import Run
from rcnnkit.training.task import Batch, Task

log = logging.getLogger("rcnnkit")
GB = 1e9
FEW = 10  # iterations; so short a run is over before a trial of its largest batch is of use
TRIES = 3  # of a batch, after the first one, which prepares much …
LONG = 5.0  # … as long as all together take fewer seconds
TIGHT = 0.9  # share of the memory from which a batch may not fit beside whatever else comes


@dataclass(frozen=True, slots=True)
class Trial:
    """The largest batch, run forward and backward."""

    shape: str  # such as "2 × 320 × 448 pixels"
    seconds: float  # forward and backward
    reading: float  # seconds in one process, with its augmentation
    needs: int | None  # bytes, the most at a time with all that was held before; None where nobody says …
    has: int | None  # … and how many there could be

    def iteration(self, usual: float, workers: int) -> float:
        """About how many seconds an iteration takes, of batches with a share of the pixels of this one, while so many
        processes read (-1: `data.workers`' default)."""
        readers = workers if workers >= 0 else min(8, os.cpu_count() or 1)
        computing = usual * self.seconds
        return max(computing, self.reading / readers) if readers else computing + self.reading


def preflight(
    task: Task[Any], run: Run, largest: Callable[[], Batch], usual: float, facts: Callable[[], Sequence[str]]
) -> None:
    """Say what is trained on what, and of a new run, whether it fits, how fast it will be and when it ends.

    Nothing that the run's result depends on is changed. Of several processes, the first one does it for all.

    Args:
        largest: gives the batch that needs most memory.
        usual: pixels of an average batch, as a share of those.
        facts: gives what is to be said of the data.

    Raises:
        ValueError: the largest batch does not fit into the GPU's memory, or the checkpoints not onto the disk.
    """
    options, training = task.options, task.training
    weights = sum(p.numel() for p in task.model.parameters() if p.requires_grad)
    windows = "" if task.things == "images" else f" {task.things}"
    length = f" {count(run.epochs, 'epoch')}, which is {count(options.iterations, 'iteration')};" if run.epochs else ""
    judged = ""
    if task.validation is not None:
        judged = f"; evaluated on {task.validation.name}, {count(len(task.validation), 'picture')}"
    processes = f", {run.ranks.size} processes" if run.ranks.size > 1 else ""
    run.say(
        f"{training.name}: {count(len(training), 'picture')}, {count(len(training.class_names), 'class')}{judged};"
        f" {weights / 1e6:.1f} M weights to train on {run.device} in {run.precision}{processes};{length} batches of"
        f" {task.whole}{windows}, learning rate {task.top_rate:.4g}"
        f" (train.lr_for_16 = {options.lr_for_16:g}); run folder {run.folder}"
    )
    if run.resume or not run.ranks.first:
        return
    for fact in facts():
        run.say(fact)
    disk = f"checkpoints: {check_disk(task, run) / GB:.2f} GB of disk"
    if not run.dry and options.iterations <= FEW:
        return
    trial = try_batch(task, run, largest)
    memory = ""
    if trial.needs is not None and trial.has is not None:
        memory = f", {trial.needs / GB:.1f} of {trial.has / GB:.1f} GB of memory"
        if trial.needs > TIGHT * trial.has:
            log.warning(
                "the largest batch, %s, takes %.1f of %.1f GB of memory; lower %s if training runs out of memory",
                *(trial.shape, trial.needs / GB, trial.has / GB, task.smaller),
            )
    run.say(f"the largest batch: {trial.shape}{memory}; {disk}")
    seconds = trial.iteration(usual, run.settings.data.workers)
    time_left = timedelta(seconds=seconds * options.iterations)
    run.say(
        f"about {task.whole / seconds:.3g} {task.things}/s: {count(options.iterations, 'iteration')} take"
        f" {duration(time_left)} and end at {_clock(datetime.now() + time_left)}, without {task.afterwards}"
    )


def list_counts(counts: Mapping[str, int], all_classes: bool) -> str:
    """Classes and how many there are of each, the most first.

    Args:
        all_classes: list all, however many.
    """
    listed = [f"{name} ({number:,})" for name, number in sorted(counts.items(), key=lambda each: -each[1])]
    return ", ".join(listed) if all_classes else few(listed)


def check_disk(task: Task[Any], run: Run) -> int:
    """The most bytes that a run's checkpoints take at a time. Raises ValueError where the disk has less."""
    weights = sum(value.nbytes for value in task.model.state_dict().values())
    last = weights + _momentum(task)
    total = weights + 2 * last  # best, the one before the last, and the last, also while it is written
    folder = next(each for each in (run.folder, *run.folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    if free < total:
        raise ValueError(
            f"the checkpoints of this run take {total / GB:.2f} GB, and {free / GB:.2f} GB are free where {run.folder}"
            " is; make room, or choose another folder"
        )
    return total


def try_batch(task: Task[Any], run: Run, largest: Callable[[], Batch]) -> Trial:
    """Run a batch forward and backward, several times unless that takes long. What is said of the time, here and by
    `suggest`, is all from this.

    Weights, statistics of norms and generators are as before in the end.

    Raises:
        ValueError: it does not fit into the GPU's memory; and as `largest`.
    """
    device, gpu = run.device, run.device.type == "cuda"
    free, held_bytes = free_memory(device), torch.cuda.memory_allocated(device) if gpu else held_memory()
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak()
    began = time.perf_counter()
    batch = largest()
    reading, passes = time.perf_counter() - began, list[float]()
    with _undisturbed(task.model, device):
        while len(passes) <= TRIES and sum(passes) < LONG:
            began = time.perf_counter()
            try:
                _pass(task, run, batch)
            except torch.OutOfMemoryError:
                raise ValueError(
                    f"the largest batch, {len(batch)} {task.things} of {batch.paths[0]} and others, does not fit into"
                    f" the memory of {device}; lower {task.smaller}"
                ) from None
            passes.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) if gpu else peak_memory()
    needs = None if peak is None else peak + _momentum(task)
    return Trial(
        _shape(task, run, batch),
        statistics.median(passes[1:] or passes),
        reading,
        needs,
        None if free is None or held_bytes is None else free + held_bytes,
    )


def _pass(task: Task[Any], run: Run, batch: Batch) -> None:
    """Forward and backward, as in an iteration."""
    with suppress(NonFiniteLoss):  # which the training will meet, and explain
        gradient(task, batch, torch.amp.GradScaler(run.device.type, enabled=False), ALONE)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)


def _shape(task: Task[Any], run: Run, batch: Batch) -> str:
    """The shape of a batch's pixels, for people."""
    inputs, _ = batch.to(run.device, task.model.preprocessing)
    pixels = getattr(inputs, "pixels", inputs)
    return f"{len(pixels)} × {pixels.shape[3]} × {pixels.shape[2]} pixels"


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Statistics of norms, gradients and the global generators are in the end what they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
            model.zero_grad(set_to_none=True)


def _momentum(task: Task[Any]) -> int:
    """Bytes that the optimizer and the average keep from the first iteration on."""
    learning = sum(p.nbytes for p in task.model.parameters() if p.requires_grad)
    average = sum(value.nbytes for value in task.model.state_dict().values()) if task.options.ema else 0
    return learning * (2 if task.options.optimizer == "adamw" else 1) + average


def duration(span: timedelta) -> str:
    """A span of time in the unit that suits it."""
    minutes = span.total_seconds() / 60
    if minutes < 90:
        return f"{minutes:.0f} min" if minutes >= 1 else "less than a minute"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"


def _clock(end: datetime, now: datetime | None = None) -> str:
    """The time, and the day where it is another one."""
    days = (end.date() - (now or datetime.now()).date()).days
    return f"{end:%H:%M}" if days == 0 else f"{end:%H:%M} on {end:%A}" if days < 7 else f"{end:%H:%M} on {end:%Y-%m-%d}"
