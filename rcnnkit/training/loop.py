"""Training: a plain loop over iterations of stochastic gradient descent."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from torch import Tensor, nn

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.config import Settings
from rcnnkit.data.class_folders import ClassFolders
from rcnnkit.data.loading import load_batches
from rcnnkit.data.reading import DataSettings, join_data, read_data
from rcnnkit.data.records import BadData, Dataset, few
from rcnnkit.data.transforms import Augmentation
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.settings import PROPOSALS_PER_OBJECT
from rcnnkit.evaluation.coco import headline
from rcnnkit.evaluation.crowding import warn_of_cocos_maximum, warn_of_limits
from rcnnkit.evaluation.report import Evaluation, evaluate
from rcnnkit.images import Preprocessing
from rcnnkit.inference import prepare
from rcnnkit.precision import autocast, pick_dtype
from rcnnkit.proposals.store import Store
from rcnnkit.terminal import safe, visible
from rcnnkit.training.checkpoint import BEST, LAST, Progress, load_checkpoint, save_checkpoint
from rcnnkit.training.log import RunLog, write_evaluation
from rcnnkit.training.proposals import stored_proposals
from rcnnkit.training.run_folder import alone, claim, goes_on, keep_settings
from rcnnkit.training.schedule import STATED_BATCH, TrainSettings, learning_rate
from rcnnkit.training.start import leave_alone, measure_targets, start_detector

log = logging.getLogger("rcnnkit")


class NonFiniteLoss(RuntimeError):
    """A loss became NaN or infinite; the text names the pictures."""


class Interrupted(Exception):  # not an error: somebody pressed Ctrl-C
    """Stopped by Ctrl-C or SIGTERM, which `signal` tells, after the checkpoint that `path` names."""

    def __init__(self, path: Path, iteration: int, signal: int, unit: str = "iterations") -> None:
        go_on = f"rcnnkit train {path.parent}/settings.toml train.resume={path.parent}"
        super().__init__(f"stopped after {iteration} {unit}; continue with {go_on}")
        self.path, self.iteration, self.signal = path, iteration, signal


@alone
def train(settings: Settings, run: Path | str, console: Console | None = None) -> Path:
    """Train a detector and leave it in a folder of its own.

    The folder gets settings.toml (every setting, resolved), log.jsonl, tensorboard/, last.safetensors (continues
    the run), best.safetensors (best AP on `data.val`, or AP_all where that is crowded; the last where there is none)
    and evaluation.json (the last one).

    Args:
        settings: of the run.
        run: its folder; must not hold anything yet, unless `train.resume` names it.
        console: where progress is shown; the terminal by default.

    Returns:
        The path of best.safetensors.

    Raises:
        FileExistsError: `run` holds something already, or another process trains there.
        BadData: annotations are bad, all listed, and `data.skip_bad` is off.
        NonFiniteLoss: the loss is NaN or infinite; the last checkpoint stays.
        Interrupted: Ctrl-C; the last checkpoint was written just before.
    """
    if settings.model.detector == "rcnn":
        raise ValueError('model.detector = "rcnn" is trained in stages, by rcnnkit.training.rcnn_stages.train_rcnn')
    if settings.model.detector == "classifier":
        raise ValueError('model.detector = "classifier" is for `rcnnkit.training.classification.train_classifier`')
    run, console = Path(run), safe(console)
    options = settings.train
    if settings.alternating.enabled:
        raise ValueError("alternating.enabled = true is for `rcnnkit.training.alternating.train_alternating`")
    resume = claim(settings, run)
    training, validation = read_splits(settings.data)
    if options.rpn_only:
        validation = None  # the head, which is not trained, would be judged
    if missing := training.without_objects(settings.data.use_difficult):
        log.warning("%s has no object to learn %s from; they will not be found", training.name, few(missing))
    detector = start_detector(settings, training, resume)  # before the proposals: weights may be the wrong ones
    assert isinstance(detector, Detector)
    splits = [training] if validation is None else [training, validation]
    warn_of_crowds(detector, training, validation)
    store = None if settings.model.detector == "faster_rcnn" else stored_proposals(settings, splits, console)
    if store and settings.head.measured_targets and not resume:
        measure_targets(detector, training, store, settings)

    def batches(start: int) -> Generator[LabelledBatch, None, None]:
        return load_batches(
            training.records,
            Augmentation(settings.augment, settings.input),
            batch=options.batch,
            seed=options.seed,
            start=start,
            workers=settings.data.workers,
            use_difficult=settings.data.use_difficult,
            store=store,
            count=settings.proposals.train_count,
        )

    def judge() -> dict[str, float]:
        assert validation is not None
        return evaluate_run(detector, validation, store, run, settings).coco.numbers

    shown = headline(validation) if validation is not None else ("AP", "AP50")
    return fit(detector, training, validation, batches, judge, shown, settings, run, resume, console)


class LabelledBatch(Protocol):
    """What `step` asks of a batch: its pictures' paths, and what the model's `losses` takes."""

    @property
    def paths(self) -> Sequence[Path]: ...

    def to(self, device: torch.device, preprocessing: Preprocessing) -> tuple[Any, Any]: ...


def fit(
    detector: Detector | Classifier,
    training: Dataset | ClassFolders,
    validation: Dataset | ClassFolders | None,
    batches: Callable[[int], Generator[LabelledBatch, None, None]],
    judge: Callable[[], dict[str, float]],
    shown: Sequence[str],
    settings: Settings,
    run: Path,
    resume: Path | None,
    console: Console,
) -> Path:
    """The loop itself, on a detector or classifier that has its weights to start from, in a claimed folder.

    Args:
        batches: of `training`, from so many on, without end.
        judge: numbers on `validation`.
        shown: which of these are printed; the weights with the greatest first one are the best.

    Returns, leaves and raises what `train` does.
    """
    options = settings.train
    device = weights.pick_device(options.device)
    dtype = pick_dtype(options.precision, device)
    detector = detector.to(device).train()
    leave_alone(detector, options)
    optimizer = sgd(detector, settings)
    progress = load_checkpoint(resume, detector, optimizer) if resume else Progress()
    if not goes_on(resume, run):
        progress.best_ap, progress.evaluated = Progress.best_ap, 0  # these weights are not in this folder

    def due() -> bool:
        """Whether weights like these are evaluated, or kept as the last where there is nothing to evaluate them on."""
        every = options.evaluate_every if validation is not None else 0
        return progress.iteration == options.iterations or bool(every and progress.iteration % every == 0)

    # A run may be stopped before its evaluation, or in it.
    left = due() and (progress.iteration > progress.evaluated or not (run / BEST).exists()) and progress.iteration > 0
    if progress.iteration > options.iterations or (progress.iteration == options.iterations and not left):
        raise ValueError(
            f"{resume} has {progress.iteration} iterations already; to train on, raise train.iterations"
            f" above {progress.iteration}"
        )

    keep_settings(settings, run, progress.iteration)
    count = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    console.print(
        f"{training.name}: {len(training)} pictures, {len(training.class_names)} classes; {count / 1e6:.1f} M weights"
        f" to train on {device} in {str(dtype).removeprefix('torch.')}; batches of {options.batch}, learning rate"
        f" {options.lr * options.batch / STATED_BATCH:.4g} ({options.lr:g} stated for {STATED_BATCH});"
        f" run folder {run}",
        highlight=False,
    )
    scaler = start_scaler(progress, device, dtype)
    with (
        closing(batches(progress.iteration)) as coming,
        RunLog(run, console, options.iterations, progress) as log,
        stop_signals() as stop,
    ):
        sums: dict[str, float] = {}
        pictures, clock = 0, time.perf_counter()

        def keep_best() -> None:
            """Evaluate the weights, and keep them if none were better."""
            about = {"iteration": progress.iteration, "data": training.name}
            best = progress.best_ap
            if validation is not None:
                try:
                    with stop.at_once():  # an evaluation takes long, and a checkpoint was written before it
                        numbers = judge()
                except KeyboardInterrupt:
                    if stop.signal is None:
                        raise
                    raise Interrupted(run / LAST, progress.iteration, stop.signal) from None
                log.evaluation(progress.iteration, validation.name, numbers, shown)
                best = finite(numbers[shown[0]])
                about |= {"val": validation.name, shown[0]: best}
            if best >= progress.best_ap or not (run / BEST).exists():
                progress.best_ap = best
                weights.save(detector, settings, run / BEST, about)
            progress.evaluated = progress.iteration
            save_checkpoint(run, detector, optimizer, settings, progress)  # which knows of it

        if left:
            save_checkpoint(run, detector, optimizer, settings, progress)  # which may be of another folder so far
            keep_best()
            clock = time.perf_counter()
        while progress.iteration < options.iterations:
            try:
                batch = next(coming)
            except Exception:  # a picture that cannot be decoded; the weights are sound
                save_checkpoint(run, detector, optimizer, settings, progress)
                raise
            losses = step(detector, optimizer, scaler, batch, settings, progress.iteration, device, dtype)
            progress.iteration += 1
            pictures += len(batch.paths)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            log.advance()

            stopping = stop.signal
            if progress.iteration % options.log_every == 0 or due() or stopping:
                seconds, steps = time.perf_counter() - clock, pictures / options.batch
                progress.seconds += seconds
                log.step(
                    progress.iteration,
                    {name: value / steps for name, value in sums.items()}
                    | {
                        "lr": learning_rate(options, progress.iteration - 1),
                        "batch": options.batch,
                        "images_per_second": pictures / seconds,
                        "seconds": progress.seconds,
                    },
                )
                sums, pictures, clock = {}, 0, time.perf_counter()
            note_scale(scaler, progress)
            if progress.iteration % options.save_every == 0 or due() or stopping:
                path = save_checkpoint(run, detector, optimizer, settings, progress)
            if stopping and progress.iteration < options.iterations:
                raise Interrupted(path, progress.iteration, stopping)
            if due():
                keep_best()
                clock = time.perf_counter()  # evaluation is no training time
    return run / BEST


def step(
    detector: Detector | Classifier,
    optimizer: torch.optim.SGD,
    scaler: torch.amp.GradScaler,
    batch: LabelledBatch,
    settings: Settings,
    iteration: int,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, float]:
    """One iteration; the losses by name, and `loss`, their sum.

    Raises:
        NonFiniteLoss: before anything is changed.
    """
    options = settings.train
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(options, iteration)
    # A generator of its own for each iteration: a resumed run draws what it would have drawn.
    seed = options.seed * 1_000_003 + iteration
    generator = torch.Generator().manual_seed(seed)
    images, targets = batch.to(device, detector.preprocessing)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), autocast(device, dtype):
        torch.manual_seed(seed)  # dropout knows no other generator than the global one
        if options.rpn_only and isinstance(detector, FasterRCNN):
            losses = detector.rpn_losses(images, targets, generator)
        else:
            losses = detector.losses(images, targets, generator)
    return descend(detector, losses, optimizer, scaler, options, iteration, batch.paths)


def descend(
    detector: nn.Module,
    losses: dict[str, Tensor],
    optimizer: torch.optim.SGD,
    scaler: torch.amp.GradScaler,
    options: TrainSettings,
    iteration: int,
    paths: Sequence[Path],
) -> dict[str, float]:
    """A step down the sum of `losses`, of the pictures `paths`; their values by name, and `loss`, the sum.

    Raises:
        NonFiniteLoss: before anything is changed.
    """
    total = torch.stack(list(losses.values())).sum()
    values = dict(zip([*losses, "loss"], torch.stack([*losses.values(), total]).tolist(), strict=True))
    if not math.isfinite(values["loss"]):
        named = ", ".join(f"{name} {value:g}" for name, value in values.items())
        pictures = "\n".join(f"  {visible(str(path))}" for path in paths)
        raise NonFiniteLoss(
            f"the loss is not finite in iteration {iteration} ({named}), with the pictures\n{pictures}\n"
            "Lower train.lr, lengthen train.warmup, or look at these pictures and their boxes"
        )
    optimizer.zero_grad()
    scaler.scale(total).backward()
    if options.clip_norm:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(detector.parameters(), options.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return values


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


def sgd(detector: nn.Module, settings: Settings) -> torch.optim.SGD:
    """SGD with momentum; weight decay on matrices and convolutions only."""
    parameters = [p for p in detector.parameters() if p.requires_grad]
    options = settings.train
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
    )


def read_splits(data: DataSettings) -> tuple[Dataset, Dataset | None]:
    """The training and validation pictures, checked.

    Raises:
        BadData: lists what is bad in either, so that all can be mended at once.
        ValueError: there is no object to learn.
    """
    if data.root.is_file():
        raise ValueError(
            f'data.root = "{data.root}" is a file; give its folder, and the files as data.train and data.val'
        )
    splits: list[Dataset] = []
    bad: list[BadData] = []
    class_names = data.class_names
    parts = [data.train] if isinstance(data.train, str) else data.train
    for split in [*parts, data.val] if data.val else parts:
        try:
            read = read_data(data.root, split, images=data.images, class_names=class_names, skip_bad=data.skip_bad)
            splits.append(read)
            class_names = list(read.class_names)
        except BadData as error:
            bad.append(error)
    if bad:
        problems = [problem for e in bad for problem in e.problems]
        raise BadData(" and ".join(e.name for e in bad), problems, skip_bad=data.skip_bad)
    training = join_data(splits[: len(parts)])
    if len(training.without_objects(data.use_difficult)) == len(training.class_names):
        some = any(len(record.targets) for record in training.records)
        left_out = ", only crowds and difficult ones," if some else ""
        raise ValueError(
            f"{training.name} has no object{left_out} in any of its {len(training)} pictures; nothing to learn"
        )
    return training, splits[-1] if data.val else None


def warn_of_crowds(detector: Detector, training: Dataset, validation: Dataset | None) -> None:
    """Log which pictures hold more objects than the settings, or COCO's AP, let through."""

    def fix(limit: Limit, most: int) -> str:
        if limit.setting.endswith("max_detections"):
            return f"set it to {most} or more, or to 0 for no limit"
        return f"set it to {PROPOSALS_PER_OBJECT * most}"  # a few of each object

    warn_of_limits(training, detector.limits(training=True), fix)
    if validation is not None:
        warn_of_limits(validation, detector.limits(), fix)
        warn_of_cocos_maximum(validation)


def finite(ap: float) -> float:
    """An AP, or 0 where there are no objects to tell it from."""
    return ap if math.isfinite(ap) else 0.0


def evaluate_run(
    detector: Detector,
    data: Dataset,
    store: Store | None,
    run: Path,
    settings: Settings,
) -> Evaluation:
    ready = prepare(detector, settings.train.precision)
    evaluation = evaluate(ready, data, proposals=store, batch_size=settings.train.batch, warn=False)
    write_evaluation(run, evaluation.to_json())
    return evaluation


@dataclass
class Stop:
    """Whether Ctrl-C or SIGTERM came."""

    signal: int | None = None  # its number
    interrupts: bool = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt when a signal comes, or if one has come."""
        if self.signal:
            raise KeyboardInterrupt
        self.interrupts = True
        try:
            yield
        finally:
            self.interrupts = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Notes that Ctrl-C or SIGTERM came; a second Ctrl-C interrupts at once."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = stop.signal or number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if stop.interrupts:
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread may; elsewhere the caller sees to it
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
