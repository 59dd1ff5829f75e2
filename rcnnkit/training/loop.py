"""The training loop: losses → backward → step, the same for whatever is trained."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rcnnkit.config import Settings
from rcnnkit.data.class_folders import ClassFolders
from rcnnkit.data.records import Dataset
from rcnnkit.evaluation.report import in_eval_mode
from rcnnkit.images import Preprocessing
from rcnnkit.model import Model
from rcnnkit.precision import autocast
from rcnnkit.reporting.run_page import RunPage
from rcnnkit.structures import ImageBatch, LossSum
from rcnnkit.text import count, visible
from rcnnkit.training.average import averaged_copy, update_average
from rcnnkit.training.checkpoint import Progress, save_checkpoint
from rcnnkit.training.divergence import ITERATIONS, Record, leave
from rcnnkit.training.log import NoLog, RunLog
from rcnnkit.training.loggers import open_loggers
from rcnnkit.training.optimizers import Part, make_optimizer, parts_of
from rcnnkit.training.ranks import LostProcess, Ranks, check_same_data, in_turn, may_restart, reaching, shared
from rcnnkit.training.run import Result, Run
from rcnnkit.training.schedule import TrainSettings, learning_rate
from rcnnkit.training.stopping import Interrupted, Stop, stop_signals

Data = TypeVar("Data", Dataset, ClassFolders)
Share = tuple[float, float]  # the sum of a loss over samples, and their number
APART = 104_729  # between the seeds of two processes' dropout


class NonFiniteLoss(RuntimeError):
    """A loss or its gradient became NaN or infinite; the text names the pictures.

    Args:
        losses: of that iteration, by name.
        here: whether this process's pictures may be the cause.
    """

    def __init__(self, text: str, losses: Mapping[str, float], here: bool = True) -> None:
        super().__init__(text)
        self.losses, self.here = losses, here


class Batch(Protocol):
    """What is learnt from in one iteration."""

    @property
    def paths(self) -> Sequence[Path]:
        """Of the pictures in it."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[Any, Any]:
        """What `Task.loss_sums` takes: the inputs and their targets, on the device. Both can be sliced."""
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
        self.run, self.options, self.ranks = run, run.settings.train, run.ranks
        check_shares(self.options, self.whole, self.things, self.ranks)
        if self.ranks.size > 1 and synchronous(run.settings) and run.device.type != "cuda":
            raise ValueError(
                f'model.norm = "sync" works on GPUs only, and these processes compute on {run.device}; set model.norm ='
                ' "batch", or "group", which does not depend on the batch'
            )
        check_same_data(self.ranks, [training] if validation is None else [training, validation])
        self.model = model.train()
        self.training: Data = training
        self.validation: Data | None = validation
        leave_alone(self.model, self.options)
        self.optimizer = make_optimizer(self.parts(), self.options)
        self.average = averaged_copy(self.model) if self.options.ema else None
        self.shared: DistributedDataParallel | None = None  # computes `loss_sums`, and adds up all processes' gradients
        self.history: deque[Record] = deque(maxlen=ITERATIONS)

    @property
    def whole(self) -> int:
        """How many things a batch of all processes has."""
        return self.options.batch

    @abstractmethod
    def batches(self, start: int) -> Generator[Batch]:
        """Batches without end, from that iteration on; of each, what is this process's share."""

    def validation_batches(self, data: Data) -> Generator[Batch]:
        """All of the validation data once, without augmentation, in batches of `part`; of several processes, each has
        one in turn."""
        raise NotImplementedError

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        """Named losses to add up, before they are divided by the number of samples.

        Args:
            model: the one that learns, or its average.
            generators: draw the samples, one for each picture.
        """
        sums: dict[str, LossSum] = model.loss_sums(inputs, targets, generators)
        return sums

    @property
    def part(self) -> int:
        """How many things are validated at a time."""
        return math.ceil(self.options.batch / self.options.accumulate)

    def evaluate(self, data: Data) -> Result | None:
        """How good the weights that are judged are on the validation data. Several processes share the work, and the
        first one alone gets the answer."""
        raise NotImplementedError

    @property
    def judged(self) -> Any:
        """The weights that are evaluated and kept: those that learn, or their average."""
        return self.model if self.average is None else self.average

    def parts(self) -> Sequence[Part]:
        """What is trained, and with which multiple of the learning rate."""
        return parts_of(self.model, self.options.backbone_lr)

    def learning_rate(self, iteration: int) -> float:
        return learning_rate(self.options, iteration)

    def share_out(self) -> None:
        """Let several processes add up their gradients."""
        if self.ranks.size > 1:
            if synchronous(self.run.settings):
                nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # keeps the weights that the optimizer has
            self.shared = shared(Losses(self), self.run.device)

    def restore(self) -> None:
        """Go on from the run's checkpoint, if there is one. Raises as `Run.restore`."""
        self.run.restore(self.model, self.optimizer, self.average)

    def save(self) -> None:
        """Write the checkpoint. Raises OSError."""
        self.run.save(self.model, self.optimizer, self.average)


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
        closing(task.batches(progress.iteration)) as batches,
        _log(task) as log,
        stop_signals() as stop,
        _kept(task),
    ):
        if _left(task):
            task.save()  # the checkpoint may be of another folder so far
            keep_best(task, log, stop)
        meter, saved = Meter(), time.monotonic()
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
            late = 0 < 60 * options.save_minutes <= time.monotonic() - saved
            if due or stopping or late or progress.iteration % options.save_every == 0:
                task.save()
                saved = time.monotonic()
            if stopping and not last:
                ranks.from_first(None)  # has written
                raise Interrupted(run.last, progress.iteration, stopping)
            if due and task.keeps_best:
                keep_best(task, log, stop)
                meter = Meter()  # evaluation is no training time
    if progress.iteration < options.iterations:
        run.say(
            f"stopped after {count(progress.iteration, 'iteration')}: the last {count(progress.stale, 'evaluation')}"
            f" {_were_no_better(task)}"
        )
    ranks.from_first(None)  # has written


@contextmanager
def _kept(task: Task[Any]) -> Iterator[None]:
    """When another process is lost, the iterations that are done are not."""
    try:
        yield
    except LostProcess as error:  # comes before or after a step, but never in one
        task.save()
        done = f"{task.run.last} has the {count(task.run.progress.iteration, 'iteration')} so far"
        raise LostProcess(f"{error}. {done}; continue with train.resume={task.run.folder}") from None


def _log(task: Task[Any]) -> RunLog | NoLog:
    run, iteration = task.run, task.run.progress.iteration
    if not run.ranks.first:
        return NoLog()
    page = RunPage(run.folder, task.options.iterations)
    loggers = [*open_loggers(run.settings, run.folder, iteration), *run.loggers, page]
    return RunLog(run.folder, run.console, task.options.iterations, run.progress, task.things, loggers)


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
            paths = task.ranks.gathered(list(batch.paths))  # the sum does not tell whose it is
            raise NonFiniteLoss(_not_finite("gradient", losses, paths, iteration), losses)
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
        left = f"{folder} has these pictures as the network saw them. This repeats the iteration:\n{command}"
    except OSError as problem:
        left = f"What is needed to repeat this iteration could not be kept ({problem})"
    return run.ranks.from_first(left)


def gradient(task: Task[Any], batch: Batch, scaler: torch.amp.GradScaler, ranks: Ranks) -> dict[str, float]:
    """The losses of a batch, whose gradient is left in the weights.

    A loss is a mean over samples of the whole batch, whose number is known when all parts are computed. Until then each
    part takes the other pictures to have as many samples as its own have. Where that was wrong, all is computed again.

    Args:
        batch: this process's share of it.
        ranks: the processes that have the others; a part is of all of them at a time.
    """
    options, device = task.options, task.run.device
    iteration = task.run.progress.iteration
    seed = seed_of(options.seed, iteration)
    inputs, targets = batch.to(device, task.model.preprocessing)
    if ranks.size > 1 and isinstance(inputs, ImageBatch):  # what is at the border of a picture depends on the padding
        inputs = inputs.padded_to(ranks.most(inputs.pixels.shape[2:]))
    number, first = len(targets), ranks.share(task.whole).start
    edges = [number * i // options.accumulate for i in range(options.accumulate + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(edges) if start < stop]
    counts: dict[str, float] | None = None  # of the samples of the whole batch
    while True:
        task.optimizer.zero_grad()
        done: list[tuple[dict[str, Share], dict[str, float]]] = []  # of each part, and by which counts it was divided
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Dropout knows no other generator than the global one.
            torch.manual_seed(seed + APART * ranks.rank)
            for part in parts:
                size = part.stop - part.start
                with autocast(device, task.run.dtype), _added_up(task, ranks, part is parts[-1]) as loss_sums:
                    drawn = generators(seed, size, first + part.start)
                    sums = loss_sums(inputs[part], targets[part], drawn)
                own = shares_of(sums)
                shares, whole = _of_all(own, ranks, size, number)
                divisors = counts or {name: count * whole for name, (_, count) in shares.items()}
                if not all(math.isfinite(total) for total, _ in shares.values()):
                    raise _not_finite_in(own, shares, batch, iteration, ranks)
                loss = torch.stack([LossSum(each.total, divisors[name]).mean for name, each in sums.items()]).sum()
                with reaching():
                    scaler.scale(loss * ranks.size).backward()  # of gradients, the mean over the processes is taken
                done.append((shares, divisors))
        counts = {name: sum(shares[name][1] for shares, _ in done) for name in sums}
        if all(divisors[name] == counts[name] for _, divisors in done for name in counts):
            return losses_of([shares for shares, _ in done])


@contextmanager
def _added_up(task: Task[Any], ranks: Ranks, last: bool) -> Iterator[Callable[..., dict[str, LossSum]]]:
    """`task.loss_sums` of the model that learns, whose gradients are added to those of other processes in the last part
    of a batch."""
    if task.shared is None or ranks.size == 1:
        yield partial(task.loss_sums, task.model)
        return
    task.shared.require_backward_grad_sync = last  # as of `no_sync`, which ends before the backward pass here
    with reaching():
        yield task.shared


def _of_all(own: Mapping[str, Share], ranks: Ranks, size: float, number: float) -> tuple[dict[str, Share], float]:
    """The sums of a part of all processes, and how many times the whole batch is as large as that.

    Args:
        size: of the part here.
        number: of the pictures of the whole batch that are here.
    """
    *sums, size, number = ranks.total([*chain.from_iterable(own.values()), size, number])
    return {name: (sums[2 * i], sums[2 * i + 1]) for i, name in enumerate(own)}, number / size


def _not_finite_in(
    own: Mapping[str, Share], shares: Mapping[str, Share], batch: Batch, iteration: int, ranks: Ranks
) -> NonFiniteLoss:
    """Names the pictures of the processes whose own losses are not finite."""
    here = not all(math.isfinite(total) for total, _ in own.values())
    paths = ranks.gathered(list(batch.paths) if here else [])
    losses = losses_of([shares])
    return NonFiniteLoss(_not_finite("loss", losses, paths, iteration), losses, here)


def shares_of(sums: Mapping[str, LossSum]) -> dict[str, Share]:
    """As plain numbers; a GPU is waited for once."""
    totals = torch.stack([each.total for each in sums.values()])
    counts = [each.count for each in sums.values()]
    weighted = [each for each in counts if isinstance(each, Tensor)]
    numbers = (torch.cat([totals, torch.stack(weighted)]) if weighted else totals).tolist()
    known = iter(numbers[len(sums) :])
    numbered = zip(sums, numbers, counts, strict=False)
    return {name: (total, next(known) if isinstance(n, Tensor) else float(n)) for name, total, n in numbered}


def losses_of(parts: Sequence[Mapping[str, Share]]) -> dict[str, float]:
    """The losses by name, of all parts together, and `loss`, their sum."""
    losses = {}
    for name in parts[0]:
        total, number = (sum(each) for each in zip(*(part[name] for part in parts), strict=True))
        losses[name] = total / number if number else 0.0
    return losses | {"loss": sum(losses.values())}


def validation_losses(task: Task[Any], data: Any) -> dict[str, float]:
    """The losses of the weights that are judged, by `val_loss_` and their names, and `val_loss`, their sum."""
    model, ranks, done = task.judged, task.ranks, []
    # no_grad and not inference_mode: what a detector caches meanwhile must serve training too.
    with in_eval_mode(model), torch.no_grad(), closing(task.validation_batches(data)) as batches:
        for number, batch in enumerate(batches):
            inputs, targets = batch.to(task.run.device, model.preprocessing)
            first = task.part * (ranks.rank + number * ranks.size)
            drawn = generators(task.options.seed, len(targets), first)
            with autocast(task.run.device, task.run.dtype):
                done.append(shares_of(task.loss_sums(model, inputs, targets, drawn)))
    losses = losses_of(in_turn(ranks.gathered(done)))
    return {"val_loss": losses.pop("loss")} | {f"val_loss_{name}": value for name, value in losses.items()}


def keep_best(task: Task[Any], log: RunLog | NoLog, stop: Stop) -> None:
    """Evaluate the weights, and keep them if none were better; without validation the last are the best."""
    run, ranks, progress = task.run, task.run.ranks, task.run.progress
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


class Losses(nn.Module):
    """The losses of a task as a module, which DistributedDataParallel takes."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model = task.model
        self.compute = partial(task.loss_sums, task.model)

    def forward(self, *arguments: Any) -> dict[str, LossSum]:
        return self.compute(*arguments)


def synchronous(settings: Settings) -> bool:
    """Whether norms that learn see the pictures of all processes."""
    return "sync" in (settings.model.norm, settings.model.fpn_norm)


def check_shares(options: TrainSettings, whole: int, things: str, ranks: Ranks) -> None:
    """Raise ValueError where a process would have nothing of some part of a batch."""
    if ranks.size > 1 and whole // ranks.size < options.accumulate:
        parts = f", each in train.accumulate = {options.accumulate} parts" if options.accumulate > 1 else ""
        raise ValueError(
            f"a batch of {whole} {things} cannot be shared out among {ranks.size} processes{parts}; raise train.batch"
            f" to {ranks.size * options.accumulate} or more, or start fewer processes"
        )


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


def _not_finite(what: str, values: dict[str, float], paths: Sequence[Sequence[Path]], iteration: int) -> str:
    """Names pictures, process by process."""
    named = ", ".join(f"{name} {value:g}" for name, value in values.items())
    of = ", ".join(str(rank) for rank, some in enumerate(paths) if some)
    whose = f" of process {of}" if len(paths) > 1 else ""
    pictures = "\n".join(f"  {visible(str(path))}" for some in paths for path in some)
    return (
        f"the {what} is not finite in iteration {iteration} ({named}), with the pictures{whose}\n{pictures}\n"
        "Lower train.lr_for_16, lengthen train.warmup, or look at these pictures and their boxes"
    )


def seed_of(seed: int, iteration: int) -> int:
    """One for each iteration: a resumed run draws what it would have drawn."""
    return seed * 1_000_003 + iteration


def generators(seed: int, number: int, first: int = 0) -> list[torch.Generator]:
    """One for each of so many pictures, by its place in the batch: what it draws does not depend on the others."""
    return [torch.Generator().manual_seed((seed * 4099 + first + i) % 2**63) for i in range(number)]


def leave_alone(model: Model, options: TrainSettings) -> None:
    """Take the parts that are not to be trained out of the training: see `train.rpn_only`, `train.freeze_backbone`."""
    names = {"backbone": options.freeze_backbone, "head": options.rpn_only}
    for name in (name for name, frozen in names.items() if frozen):
        part = model.get_submodule(name)
        part.requires_grad_(False)
        part.eval()  # evaluation gives every module its own mode back


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
