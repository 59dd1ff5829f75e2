"""How good the weights are while training, and which were the best so far."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import torch

from rcnnkit.evaluation.report import in_eval_mode
from rcnnkit.precision import autocast
from rcnnkit.text import count
from rcnnkit.training.gradient import generators, losses_of, shares_of
from rcnnkit.training.log import NoLog, RunLog
from rcnnkit.training.ranks import in_turn
from rcnnkit.training.stopping import Interrupted, Stop
from rcnnkit.training.task import Task


def keep_best(task: Task[Any], log: RunLog | NoLog, stop: Stop) -> None:
    """Evaluate the weights, and keep them if none were better; without validation the last are the best."""
    run, ranks, progress = task.run, task.run.ranks, task.run.progress
    run.writer.wait()  # what is interrupted in an evaluation goes on from there
    if task.validation is not None:
        ranks.spread(list(task.judged.buffers()))  # statistics of norms that learn are of each process's own pictures
    about: dict[str, Any] = {"iteration": progress.iteration, "data": task.training.name}
    best = progress.best_ap
    if task.validation is not None:
        try:
            with stop.at_once():  # an evaluation takes long, and a checkpoint was written before it
                result = task.evaluate(task.validation)
                losses = validation_losses(task, task.validation) if task.options.validation_losses else {}
        except KeyboardInterrupt:
            if stop.signal is None:
                raise
            raise Interrupted(run.last, progress.iteration, stop.signal) from None
        if result is not None:
            log.write({"iteration": progress.iteration, **result.numbers, **losses})
            log.show("judged", progress.iteration, result, task.validation)
            about |= run.evaluated(result, task.validation.name, f"after {count(progress.iteration, 'iteration')}, ")
            best = about[result.headline[0]]
        best = ranks.from_first(best)
        progress.stale = 0 if best > progress.best_ap else progress.stale + 1
    if best >= progress.best_ap or not run.best.exists():
        progress.best_ap = best
        run.save_best(task.judged, about)
    progress.evaluated = progress.iteration
    task.save()  # which knows of it


def validation_losses(task: Task[Any], data: Any) -> dict[str, float]:
    """The losses of the weights that are judged, by `val_loss_` and their names, and `val_loss`, their sum."""
    model, ranks, shares = task.judged, task.ranks, []
    # no_grad and not inference_mode: what a detector caches meanwhile must serve training too.
    with in_eval_mode(model), torch.no_grad(), closing(task.validation_batches(data)) as batches:
        for number, batch in enumerate(batches):
            inputs, targets = batch.to(task.run.device, model.preprocessing)
            first = task.part * (ranks.rank + number * ranks.size)
            drawn = generators(task.options.seed, len(targets), first)
            with autocast(task.run.device, task.run.dtype):
                shares.append(shares_of(task.loss_sums(model, inputs, targets, drawn)))
    losses = losses_of(in_turn(ranks.gathered(shares)))
    return {"val_loss": losses.pop("loss")} | {f"val_loss_{name}": value for name, value in losses.items()}
