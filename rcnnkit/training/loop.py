"""The training loop: losses → backward → step, the same for whatever is trained."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rcnnkit.data.class_folders import ClassFolders
from rcnnkit.data.records import Dataset
from rcnnkit.images import Preprocessing
from rcnnkit.model import Model
from rcnnkit.precision import autocast
from rcnnkit.text import count, visible
from rcnnkit.training.checkpoint import Progress
from rcnnkit.training.log import RunLog
from rcnnkit.training.run import Result, Run
from rcnnkit.training.schedule import TrainSettings, learning_rate
from rcnnkit.training.stopping import Interrupted, Stop, stop_signals

Data = TypeVar("Data", Dataset, ClassFolders)


class NonFiniteLoss(RuntimeError):
    """A loss became NaN or infinite; the text names the pictures."""


class Batch(Protocol):
    """What is learnt from in one iteration."""

    @property
    def paths(self) -> Sequence[Path]:
        """Of the pictures in it."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[Any, Any]:
        """What `Task.losses` takes: the inputs and their targets, on the device."""
        ...


class Task(ABC, Generic[Data]):
    """What a run trains, on which data, and how good it is.

    Args:
        run: in its folder.
        model: with the weights to start from, on the run's device.
        training: the data.
        validation: the data that it is judged by, if any.
    """

    things = "images"  # what a batch is made of
    keeps_best = True  # at evaluations and at the end; False: what comes after the loop does

    def __init__(self, run: Run, model: Any, training: Data, validation: Data | None) -> None:
        self.run, self.options = run, run.settings.train
        self.model = model.train()
        self.training: Data = training
        self.validation: Data | None = validation
        leave_alone(self.model, self.options)

    @abstractmethod
    def batches(self, start: int) -> Generator[Batch]:
        """Batches without end, from that iteration on."""

    def losses(self, inputs: Any, targets: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Named losses to add up."""
        losses: dict[str, Tensor] = self.model.losses(inputs, targets, generator)
        return losses

    def evaluate(self, data: Data) -> Result:
        """How good the model is on the validation data."""
        raise NotImplementedError

    def parts(self) -> Sequence[tuple[nn.Module, float]]:
        """What is trained, and with which multiple of the learning rate."""
        return [(self.model, 1.0)]

    def learning_rate(self, iteration: int) -> float:
        return learning_rate(self.options, iteration)


def fit(task: Task[Any], run: Run) -> Path:
    """Train a detector or classifier from its start, or its checkpoint, to the last iteration.

    Returns, leaves and raises what `rcnnkit.train` does.
    """
    options = run.settings.train
    optimizer = sgd(task.parts(), options)
    run.restore(task.model, optimizer)
    progress = run.progress
    if progress.iteration >= options.iterations and not (progress.iteration == options.iterations and _left(task, run)):
        raise ValueError(
            f"{run.resume} has {count(progress.iteration, 'iteration')} already; to train on, raise train.iterations"
            f" above {progress.iteration}"
        )
    run.keep_settings()
    iterate(task, run, optimizer)
    return run.best


def iterate(task: Task[Any], run: Run, optimizer: torch.optim.SGD) -> None:
    """The loop itself, from `run.progress` on.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite; the last checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM; the last checkpoint was written just before.
    """
    options, progress, model = run.settings.train, run.progress, task.model
    if run.resume:
        done = f"going on after iteration {progress.iteration} of {options.iterations}"
        run.say("; ".join([done, *run.changes]))
    scaler = start_scaler(progress, run.device, run.dtype)
    with (
        closing(task.batches(progress.iteration)) as batches,
        RunLog(run.folder, run.console, options.iterations, progress, task.things) as log,
        stop_signals() as stop,
    ):
        if _left(task, run):
            run.save(model, optimizer)  # the checkpoint may be of another folder so far
            keep_best(task, run, optimizer, log, stop)
        meter = Meter()
        while progress.iteration < options.iterations:
            try:
                batch = next(batches)
            except Exception:  # a picture that cannot be decoded; the weights are sound
                run.save(model, optimizer)
                raise
            losses = step(task, batch, optimizer, scaler, run)
            progress.iteration += 1
            meter.add(losses, len(batch))
            log.advance()

            due, last, stopping = _due(task, run), progress.iteration == options.iterations, stop.signal
            if due or stopping or progress.iteration % options.log_every == 0:
                progress.seconds += meter.seconds
                rate = task.learning_rate(progress.iteration - 1)
                numbers = {"lr": rate, "batch": len(batch), f"{task.things}_per_second": meter.speed}
                log.step(progress.iteration, meter.means() | numbers | {"seconds": progress.seconds})
                meter = Meter()
            note_scale(scaler, progress)
            if due or stopping or progress.iteration % options.save_every == 0:
                run.save(model, optimizer)
            if stopping and not last:
                raise Interrupted(run.last, progress.iteration, stopping)
            if due and task.keeps_best:
                keep_best(task, run, optimizer, log, stop)
                meter = Meter()  # evaluation is no training time


def step(
    task: Task[Any], batch: Batch, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler, run: Run
) -> dict[str, float]:
    """One iteration of stochastic gradient descent; the losses by name, and `loss`, their sum.

    Raises:
        NonFiniteLoss: before anything is changed.
    """
    options, iteration, device = task.options, run.progress.iteration, run.device
    for group in optimizer.param_groups:
        group["lr"] = task.learning_rate(iteration) * group["factor"]
    seed = seed_of(options.seed, iteration)
    inputs, targets = batch.to(device, task.model.preprocessing)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), autocast(device, run.dtype):
        torch.manual_seed(seed)  # dropout knows no other generator than the global one
        losses = task.losses(inputs, targets, torch.Generator().manual_seed(seed))
    total = torch.stack(list(losses.values())).sum()
    values = dict(zip([*losses, "loss"], torch.stack([*losses.values(), total]).tolist(), strict=True))
    if not math.isfinite(values["loss"]):
        raise NonFiniteLoss(_not_finite(values, batch, iteration))
    optimizer.zero_grad()
    scaler.scale(total).backward()
    if options.clip_norm:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(task.model.parameters(), options.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return values


def keep_best(task: Task[Any], run: Run, optimizer: torch.optim.SGD, log: RunLog, stop: Stop) -> None:
    """Evaluate the weights, and keep them if none were better; without validation the last are the best."""
    progress = run.progress
    about: dict[str, Any] = {"iteration": progress.iteration, "data": task.training.name}
    best = progress.best_ap
    if task.validation is not None:
        try:
            with stop.at_once():  # an evaluation takes long, and a checkpoint was written before it
                result = task.evaluate(task.validation)
        except KeyboardInterrupt:
            if stop.signal is None:
                raise
            raise Interrupted(run.last, progress.iteration, stop.signal) from None
        log.write({"iteration": progress.iteration, **result.numbers})
        about |= run.evaluated(result, task.validation.name, f"after {count(progress.iteration, 'iteration')}, ")
        best = about[result.headline[0]]
    if best >= progress.best_ap or not run.best.exists():
        progress.best_ap = best
        run.save_best(task.model, about)
    progress.evaluated = progress.iteration
    run.save(task.model, optimizer)  # which knows of it


def _due(task: Task[Any], run: Run) -> bool:
    """Whether weights like these are evaluated, or kept as the last where there is nothing to evaluate them on."""
    options, iteration = run.settings.train, run.progress.iteration
    every = options.evaluate_every if task.validation is not None else 0
    return iteration == options.iterations or bool(every and iteration % every == 0)


def _left(task: Task[Any], run: Run) -> bool:
    """Whether the run was stopped before an evaluation that was due, or in it."""
    progress = run.progress
    missing = progress.iteration > progress.evaluated or not run.best.exists()
    return task.keeps_best and progress.iteration > 0 and missing and _due(task, run)


class Meter:
    """Losses and speed since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.steps = self.things = 0
        self.sums: dict[str, float] = {}

    def add(self, losses: dict[str, float], things: int) -> None:
        self.steps += 1
        self.things += things
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.seconds = time.perf_counter() - self.began

    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self.sums.items()}

    @property
    def speed(self) -> float:
        """Things a second."""
        return self.things / self.seconds


def _not_finite(values: dict[str, float], batch: Batch, iteration: int) -> str:
    named = ", ".join(f"{name} {value:g}" for name, value in values.items())
    pictures = "\n".join(f"  {visible(str(path))}" for path in batch.paths)
    return (
        f"the loss is not finite in iteration {iteration} ({named}), with the pictures\n{pictures}\n"
        "Lower train.lr_for_16, lengthen train.warmup, or look at these pictures and their boxes"
    )


def seed_of(seed: int, iteration: int) -> int:
    """One for each iteration: a resumed run draws what it would have drawn."""
    return seed * 1_000_003 + iteration


def leave_alone(model: Model, options: TrainSettings) -> None:
    """Take the parts that are not to be trained out of the training: see `train.rpn_only`, `train.freeze_backbone`."""
    names = {"backbone": options.freeze_backbone, "head": options.rpn_only}
    for name in (name for name, frozen in names.items() if frozen):
        part = model.get_submodule(name)
        part.requires_grad_(False)
        part.eval()  # evaluation gives every module its own mode back


def sgd(parts: Sequence[tuple[nn.Module, float]], options: TrainSettings) -> torch.optim.SGD:
    """SGD with momentum; weight decay on matrices and convolutions only.

    Args:
        parts: what is trained, and the multiple of the learning rate that each takes, kept as `factor` of its groups.
    """
    groups = []
    for part, factor in parts:
        parameters = [p for p in part.parameters() if p.requires_grad]
        for decay, chosen in (
            (options.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return torch.optim.SGD(groups, lr=options.lr_for_16, momentum=options.momentum, nesterov=options.nesterov)


def start_scaler(progress: Progress, device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """fp16's, as it was."""
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    if scaler.is_enabled():
        state = {"scale": progress.loss_scale, "_growth_tracker": progress.scale_steps}
        scaler.load_state_dict(scaler.state_dict() | state)
    return scaler


def note_scale(scaler: torch.amp.GradScaler, progress: Progress) -> None:
    """What `start_scaler` goes on from."""
    if scaler.is_enabled():
        state = scaler.state_dict()
        progress.loss_scale, progress.scale_steps = state["scale"], state["_growth_tracker"]
