"""The training loop: losses → backward → step, the same for whatever is trained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rcnnkit.reporting.run_page import RunPage
from rcnnkit.text import count
from rcnnkit.training.average import update_average
from rcnnkit.training.best import keep_best
from rcnnkit.training.checkpoint import Progress, save_checkpoint
from rcnnkit.training.divergence import Record, leave
from rcnnkit.training.gradient import NonFiniteLoss, gradient, not_finite
from rcnnkit.training.log import NoLog, RunLog
from rcnnkit.training.loggers import open_loggers
from rcnnkit.training.meter import Meter
from rcnnkit.training.ranks import LostProcess, may_restart
from rcnnkit.training.stopping import Interrupted, stop_signals
from rcnnkit.training.task import Batch, Task


def fit(task: Task[Any]) -> Path:
    """Train a detector or classifier from its start, or its checkpoint, to the last iteration.

    Returns, leaves and raises what `rcnnkit.train` does.
    """
    run, options = task.run, task.options
    task.restore()
    progress = run.progress
    if progress.iteration >= options.iterations and not (progress.iteration == options.iterations and _left(task)):
        raise ValueError(
            f"{run.resume} has {count(progress.iteration, 'iteration')} already; to train on, raise train.iterations"
            f" above {progress.iteration}"
        )
    if _has_plateaued(task):
        raise ValueError(
            f"{run.resume} stopped after {count(progress.stale, 'evaluation')} that {_were_no_better(task)}; to train"
            f" on, raise train.patience above {progress.stale}"
        )
    if may_restart() and not run.resume:
        task.save()  # to restart from, whenever that is
        run.writer.wait()
    run.keep_settings()
    iterate(task)
    return run.best


def iterate(task: Task[Any]) -> None:
    """The loop itself, from the run's progress on.

    Raises:
        NonFiniteLoss: the loss or its gradient is NaN or infinite; the last checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM; the last checkpoint was written just before.
    """
    run, options, progress = task.run, task.options, task.run.progress
    if run.resume:
        done = f"going on after iteration {progress.iteration} of {options.iterations}"
        run.say("; ".join([done, *run.changes]))
    scaler = start_scaler(progress, run.device, run.dtype)
    ranks = run.ranks
    task.share_out()
    with (
        run.writer.finished(),
        closing(task.batches(progress.iteration)) as batches,
        _log(task) as log,
        stop_signals() as stop,
        _kept(task),
    ):
        if _left(task):
            task.save()  # the checkpoint may be of another folder so far
            keep_best(task, log, stop)
        meter, save_time = Meter(), time.monotonic()
        while progress.iteration < options.iterations and not _has_plateaued(task):
            try:
                batch = next(batches)
            except Exception:  # a picture that cannot be decoded; the weights are sound
                task.save()
                raise
            try:
                losses = step(task, batch, scaler)
            except NonFiniteLoss as error:
                raise NonFiniteLoss(f"{error}\n{_left_behind(task, batch, error)}", error.losses) from None
            if task.average is not None:
                update_average(task.average, task.model, options.ema, progress.iteration)
            progress.iteration += 1
            meter.add(losses, task.whole)
            log.advance()

            (stopping,) = ranks.most([stop.signal or 0])  # a signal reaches one process before another
            stop.signal = stop.signal or stopping or None
            due, last = _due(task), progress.iteration == options.iterations
            if due or progress.iteration == 1:
                log.show("saw", progress.iteration, batch)
            if due or stopping or progress.iteration % options.log_every == 0:
                progress.seconds += meter.seconds
                rate = task.learning_rate(progress.iteration - 1)
                numbers = {"lr": rate, "batch": task.whole, f"{task.things}_per_second": meter.speed}
                log.step(progress.iteration, meter.means() | numbers | {"seconds": progress.seconds})
                meter = Meter()
            note_scale(scaler, progress)
            run.writer.check()
            late = 0 < 60 * options.save_minutes <= time.monotonic() - save_time
            if due or stopping or late or progress.iteration % options.save_every == 0:
                task.save()
                save_time = time.monotonic()
            if stopping and not last:
                run.writer.wait()
                ranks.from_first(None)  # has written
                raise Interrupted(run.last, progress.iteration, stopping)
            if due and task.keeps_best:
                keep_best(task, log, stop)
                meter = Meter()  # evaluation is not training time
    if progress.iteration < options.iterations:
        run.say(
            f"stopped after {count(progress.iteration, 'iteration')}: the last {count(progress.stale, 'evaluation')}"
            f" {_were_no_better(task)}"
        )
    ranks.from_first(None)  # has written


def step(task: Task[Any], batch: Batch, scaler: torch.amp.GradScaler) -> dict[str, float]:
    """One iteration; the losses by name, and `loss`, their sum.

    Raises:
        NonFiniteLoss: before anything is changed.
    """
    options, iteration = task.options, task.run.progress.iteration
    for group in task.optimizer.param_groups:
        group["lr"] = task.learning_rate(iteration) * group["factor"]
    with _statistics_stay(task.model):
        losses = gradient(task, batch, scaler, task.ranks)
        scaler.unscale_(task.optimizer)
        record = Record.of(iteration, losses, task.learning_rate(iteration), task.model)
        task.history.append(record)
        if not scaler.is_enabled() and not record.gradient_norm.isfinite():  # fp16's scaler leaves such a step out
            paths = task.ranks.gathered(list(batch.paths))  # the sum does not show whose it is
            raise NonFiniteLoss(not_finite("gradient", losses, paths, iteration), losses)
    if options.clip_norm:
        nn.utils.clip_grads_with_norm_(task.model.parameters(), options.clip_norm, record.gradient_norm)
    scaler.step(task.optimizer)
    scaler.update()
    return losses


@contextmanager
def _statistics_stay(model: nn.Module) -> Iterator[None]:
    """Those of norms that learn change with the losses; after an error they are as before."""
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.training]
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    except Exception:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        raise


@contextmanager
def _kept(task: Task[Any]) -> Iterator[None]:
    """When another process is lost, the iterations that are done are not."""
    try:
        yield
    except LostProcess as error:  # comes before or after a step, but never in one
        task.save()
        task.run.writer.wait()
        done = f"{task.run.last} has the {count(task.run.progress.iteration, 'iteration')} so far"
        raise LostProcess(f"{error}. {done}; continue with train.resume={task.run.folder}") from None


def _log(task: Task[Any]) -> RunLog | NoLog:
    run, iteration = task.run, task.run.progress.iteration
    if not run.ranks.first:
        return NoLog()
    page = RunPage(run.folder, task.options.iterations)
    loggers = [*open_loggers(run.settings, run.folder, iteration), *run.loggers, page]
    return RunLog(run.folder, run.console, task.options.iterations, run.progress, task.things, loggers)


def _left_behind(task: Task[Any], batch: Batch, error: NonFiniteLoss) -> str:
    """Write what there is to see of this iteration; says where."""
    run = task.run
    batches = run.ranks.gathered(batch if error.here else None)
    if not run.ranks.first:
        return run.ranks.from_first("")
    try:
        guilty = next(each for each in batches if each is not None)
        folder, command = leave(run, task.model, guilty, error.losses, task.history)
        if folder != run.folder:
            save_checkpoint(folder, task.model, task.optimizer, run.settings, run.progress, task.average)
        advice = f"{folder} has these pictures as the network saw them. This repeats the iteration:\n{command}"
    except OSError as problem:
        advice = f"What is needed to repeat this iteration could not be kept ({problem})"
    return run.ranks.from_first(advice)


def _due(task: Task[Any]) -> bool:
    """Whether weights like these are evaluated, or kept as the last where there is nothing to evaluate them on."""
    options, iteration = task.options, task.run.progress.iteration
    every = options.evaluate_every if task.validation is not None else 0
    return iteration == options.iterations or bool(every and iteration % every == 0)


def _left(task: Task[Any]) -> bool:
    """Whether the run was stopped before an evaluation that was due, or in it."""
    progress = task.run.progress
    missing = progress.iteration > progress.evaluated or not task.run.best.exists()
    return task.keeps_best and progress.iteration > 0 and missing and _due(task)


def _has_plateaued(task: Task[Any]) -> bool:
    """Whether `train.patience` evaluations were no better than one before them."""
    return 0 < task.options.patience <= task.run.progress.stale


def _were_no_better(task: Task[Any]) -> str:
    return f"were no better than {task.run.progress.best_ap:.3f} (train.patience = {task.options.patience})"


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
