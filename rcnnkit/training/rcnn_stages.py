"""R-CNN's training, stage by stage (Girshick et al. 2014, arXiv:1311.2524v5, section 2.3, appendices B and C).

Proposals → fine-tuning → features of every window → SVMs → box regression. Each stage goes on from what it finds of
itself in the run's folder:

    last.safetensors            fine-tuning so far; at its end, the network of the stages after it
    features/                   see `rcnnkit.training.features`
    svms-….safetensors          the SVMs so far; the name tells what they depend on
    boxes-….safetensors         the box regression of the classes done so far, likewise
    best.safetensors            the detector
    before-mining.safetensors   the same with the SVMs of the first training, to see what mining is worth
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from rcnnkit import weights
from rcnnkit.boxes import encode
from rcnnkit.config import Settings
from rcnnkit.data.proposals import read_proposals
from rcnnkit.data.records import Dataset, few
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.evaluation.coco import headline
from rcnnkit.heads.box_ridge import BoxRidge
from rcnnkit.heads.svm import SVMSettings, SVMTrainer, feature_scale
from rcnnkit.inference import prepare
from rcnnkit.precision import pick_dtype
from rcnnkit.proposals.store import Store
from rcnnkit.terminal import safe
from rcnnkit.training.checkpoint import BEST, LAST, Progress, load_checkpoint, save_checkpoint
from rcnnkit.training.features import Array, Features, fingerprint, write_arrays
from rcnnkit.training.fine_tuning import fine_tune, window_sgd
from rcnnkit.training.log import write_line
from rcnnkit.training.loop import Interrupted, evaluate_run, finite, read_splits, stop_signals, warn_of_crowds
from rcnnkit.training.proposals import stored_proposals
from rcnnkit.training.run_folder import alone, claim, keep_settings
from rcnnkit.training.start import start_detector
from rcnnkit.training.windows import Pictures, Windows
from rcnnkit.training.windows import fingerprint as fingerprint_of_windows

BEFORE_MINING = "before-mining.safetensors"
NORM_PICTURES, NORM_WINDOWS = 200, 200  # at most so many tell the features' mean length (released code)
SAVE_SECONDS = 60.0  # between states of the SVMs on disk


@alone
def train_rcnn(settings: Settings, run: Path | str, console: Console | None = None) -> Path:
    """Train R-CNN and leave it in a folder of its own.

    Args, return value and errors are those of `rcnnkit.training.loop.train`; besides:

    Raises:
        ValueError: a class has no object, a picture has no proposals or another picture's, features on disk are of
            another network, or settings ask for what there is not: all before anything is trained.
    """
    run, console = Path(run), safe(console)
    resume = claim(settings, run)
    device = weights.pick_device(settings.train.device)
    dtype = pick_dtype(settings.train.precision, device)
    training, validation = read_splits(settings.data)
    _check(settings, training)
    detector = start_detector(settings, training, resume).to(device)  # before the proposals: weights may be wrong ones
    assert isinstance(detector, RCNN)
    warn_of_crowds(detector, training, validation)
    store = stored_proposals(settings, [training] if validation is None else [training, validation], console)
    windows = read_windows(settings, training, store)
    optimizer = window_sgd(detector, settings)
    progress = load_checkpoint(resume, detector, optimizer) if resume else Progress()
    pictures = Pictures(windows, detector, settings.features.memory_gb)
    features = plan_features(detector, pictures, settings, training, run, dtype)
    tuning = settings.rcnn.fine_tune and progress.iteration < settings.train.iterations
    if tuning:
        features.renew(own=settings.features.folder is None)
    keep_settings(settings, run, progress.iteration)
    console.print(
        f"{training.name}: {len(training)} pictures, {len(training.class_names)} classes,"
        f" {sum(map(len, windows)):,} windows; on {device} in {str(dtype).removeprefix('torch.')}; run folder {run}",
        highlight=False,
    )
    if tuning:
        fine_tune(detector, optimizer, progress, pictures, settings, run, console, dtype)
    elif not settings.rcnn.fine_tune:
        save_checkpoint(run, detector, optimizer, settings, progress)
    detector.eval()
    about = {"iteration": progress.iteration, "data": training.name}
    first = None
    if detector.settings.scores == "svm" or detector.settings.box_regression:
        make_features(detector, features, run, console)
        if detector.settings.scores == "svm":
            first = train_svms(detector, features, settings, run, console)
        if detector.settings.box_regression:
            train_boxes(detector, features, settings, run, console)
    if first is not None:
        last = detector.svm_weight.clone(), detector.svm_bias.clone()
        _fill(detector, *first)
        weights.save(detector, settings, run / BEFORE_MINING, about)
        _fill(detector, *last)
    weights.save(detector, settings, run / BEST, about)
    if validation is not None:
        evaluation = evaluate_run(detector, validation, store, run, settings)
        numbers = evaluation.coco.numbers
        write_line(run, {"stage": "evaluation", **numbers})
        shown = headline(validation)
        printed = ", ".join(f"{name} {numbers[name]:.3f}" for name in shown)
        console.print(f"{validation.name}: {printed}", highlight=False)
        about |= {"val": validation.name, shown[0]: finite(numbers[shown[0]])}
        weights.save(detector, settings, run / BEST, about)
    return run / BEST


def _check(settings: Settings, training: Dataset) -> None:
    """Raise ValueError for what would only be found hours later."""
    if missing := training.without_objects(settings.data.use_difficult):
        raise ValueError(
            f"{training.name} has no object to learn {few(missing)} from; annotate some, set data.use_difficult ="
            " true if there are difficult ones, or leave these out of data.class_names"
        )
    rcnn = settings.rcnn
    if not rcnn.fine_tune and not (settings.model.pretrained or settings.train.init):
        raise ValueError(
            "rcnn.fine_tune = false leaves the network as it is, which is random; set model.pretrained = true or"
            " train.init, or fine-tune it"
        )
    if rcnn.scores == "softmax" and not rcnn.fine_tune:
        about = weights.read_shapes(settings.train.init)[0] if settings.train.init else {}
        if (about.get("detector"), about.get("class_names")) != ("rcnn", list(training.class_names)):
            raise ValueError(
                'rcnn.scores = "softmax" are of the fine-tuned classifier; set rcnn.fine_tune = true, or train.init to'
                " an R-CNN of the same classes"
            )
    unused = {"crop", "brightness", "contrast", "saturation", "hue", "scale"}
    changed = settings.augment.model_dump(exclude_defaults=True).keys() & unused
    if changed:
        raise ValueError(f"augment.{min(changed)} is not for R-CNN, whose windows are flipped only; leave it away")


def read_windows(settings: Settings, training: Dataset, store: Store) -> list[Windows]:
    """The objects and the best proposals of every picture.

    Raises:
        FileNotFoundError, ValueError: the proposals of a picture are missing, none, or another picture's.
    """
    count, difficult = settings.proposals.train_count, settings.data.use_difficult
    windows = []
    for record, proposals in zip(training.records, read_proposals(training, store), strict=True):
        if not len(proposals):
            raise ValueError(
                f"{store.path(record.id)} has no proposal, so nothing in {record.path} can be background; make more"
                " proposals, or leave the picture out"
            )
        windows.append(Windows.of(record, proposals[:count], difficult))
    return windows


def plan_features(
    detector: RCNN, pictures: Pictures, settings: Settings, training: Dataset, run: Path, dtype: torch.dtype
) -> Features:
    """What stage 3 will compute, and where it will be kept. Raises as `Features`."""

    @functools.cache  # first called when the network is fine-tuned
    def ready() -> RCNN:
        return prepare(detector, settings.train.precision)

    def compute(picture: int) -> tuple[Tensor, Tensor]:
        pixels = pictures.pixels(picture)
        boxes = pictures.boxes(picture, pixels).to(detector.device)
        with torch.inference_mode():
            found = ready().compute_features(pixels.to(detector.device), boxes)
        return found["fc7" if detector.settings.scores == "softmax" else detector.settings.layer], found["pool5"]

    about = {
        "data set": training.name,
        "windows": fingerprint_of_windows(pictures.windows),
        "backbone": settings.model.backbone,
        "layer": detector.settings.layer,
        "window": {
            "size": detector.settings.size,
            "context": detector.settings.context,
            "square": detector.settings.square,
        },
        "input": settings.input.model_dump(mode="json"),
        "precision": str(dtype),
        "near_iou": settings.rcnn.near_iou,
    }
    widths = detector.backbone.widths
    return Features(
        settings.features.model_copy(update={"folder": settings.features.folder or run / "features"}),
        about,
        pictures.windows,
        compute,
        (
            widths[detector.settings.layer] if detector.settings.scores == "svm" else 0,
            widths["pool5"] if detector.settings.box_regression else 0,
        ),
        settings.rcnn.near_iou,
    )


def make_features(detector: RCNN, features: Features, run: Path, console: Console) -> None:
    """Stage 3: what the network makes of every window.

    Raises:
        ValueError: the folder holds the features of another network.
        Interrupted: Ctrl-C; the pictures done so far stay.
    """
    missing, total = features.begin(fingerprint(detector.backbone)), len(features.windows)
    if missing:
        rest = "; the others are computed again when they are needed" if features.stored < total else ""
        console.print(
            f"features of {features.stored} of {total} pictures go to disk, {features.bytes / 1e9:.3g} GB in"
            f" {features.folder}{rest}",
            highlight=False,
        )
    with _stage(console, "features", total, total - len(missing), run) as advance:
        for picture in missing:
            features.make(picture)
            advance()


def train_svms(
    detector: RCNN, features: Features, settings: Settings, run: Path, console: Console
) -> tuple[Array, Array] | None:
    """Stage 4: one SVM per class, with hard negatives from all pictures; fills the detector's.

    Returns:
        The SVMs after the first training, as weight (K, D) and bias (K,) of features as the network gives them;
        None without mining, where they are the same.
    """
    options, windows = settings.rcnn, features.windows
    scale = _scale(features, "norms", settings.train.seed)
    labels = torch.cat([each.objects.labels for each in windows]).numpy()
    objects = np.concatenate([features.read(i, "objects") * scale for i in range(len(windows))])
    chosen = options.model_dump(include={*SVMSettings.model_fields})
    classes = len(detector.class_names)
    trainer = SVMTrainer(
        [objects[labels == label] for label in range(classes)],
        detector.class_names,
        options,
        os.cpu_count() or 1,
    )
    file = run / f"svms-{_digest(features, chosen, options.mining, options.passes, scale)}.safetensors"
    steps = len(windows) * options.passes
    first, seen = None, 0

    def scaled(picture: int) -> Array:
        return features.all(picture) * scale

    if file.exists():
        svms = {"weight": detector.svm_weight.shape, "bias": (classes,)}
        counts: dict[str, tuple[int, ...]] = {"seen": (1,), "trainings": (classes,), "added": (classes,)}
        keys = {f"keys/{label}": (-1, 2) for label in range(classes)}
        state = read_stage(file, svms, counts | keys, {f"first_{name}": shape for name, shape in svms.items()})
        seen = int(state["seen"][0])
        if "first_bias" in state:
            first = state["first_weight"], state["first_bias"]
        if seen < steps:
            trainer.restore(state, scaled)
        else:
            trainer.weight, trainer.bias = state["weight"], state["bias"]

    def save() -> None:
        firsts = {} if first is None else {"first_weight": first[0], "first_bias": first[1]}
        write_arrays(trainer.state() | firsts | {"seen": np.array([seen])}, file)

    saved = time.perf_counter()
    with _stage(console, "SVMs", steps, seen, run, save) as advance:
        while seen < steps:
            picture = seen % len(windows)
            trained = trainer.see(picture, scaled(picture), windows[picture].overlaps(classes), last=seen == steps - 1)
            seen += 1
            for label in trained:
                negatives, trainings = len(trainer.negatives[label]), int(trainer.trainings[label])
                values = {"picture": seen, "class": detector.class_names[label], "training": trainings}
                write_line(
                    run, {"stage": "svms", **values, "positives": len(trainer.positives[label]), "kept": negatives}
                )
            if first is None and trainer.trainings.all():
                first = trainer.weight.copy(), trainer.bias.copy()
                if not options.mining:
                    seen = steps
            if trained and (seen == steps or time.perf_counter() - saved > SAVE_SECONDS):
                save()
                saved = time.perf_counter()
            advance()
    _fill(detector, trainer.weight * scale, trainer.bias)
    return (first[0] * scale, first[1]) if first is not None and options.mining else None


def train_boxes(detector: RCNN, features: Features, settings: Settings, run: Path, console: Console) -> None:
    """Stage 5: the box regression of each class, from windows near its objects; fills the detector's."""
    options = settings.rcnn
    scale = _scale(features, "pool5_norms", settings.train.seed)
    file = run / f"boxes-{_digest(features, options.ridge, scale)}.safetensors"
    classes = len(detector.class_names)
    boxes = {"weight": detector.ridge_weight.shape[1:], "bias": detector.ridge_bias.shape[1:]}
    known = {f"{name}/{label}": shape for name, shape in boxes.items() for label in range(classes)}
    done = read_stage(file, {}, {}, known) if file.exists() else {}
    with _stage(console, "box regression", classes, len(done) // 2, run) as advance:
        for label in range(classes):
            if f"weight/{label}" in done:
                continue
            regressor = BoxRidge(detector.backbone.widths["pool5"], options.ridge)
            for picture, windows in enumerate(features.windows):
                near, index = windows.near(options.near_iou)
                mine = windows.objects.labels[index] == label
                if mine.any():
                    deltas = encode(windows.objects.boxes[index[mine]], windows.boxes[near[mine]])
                    regressor.add(features.read(picture, "near")[mine.numpy()] * scale, deltas.numpy())
            if not regressor.count:
                raise ValueError(
                    f"no window has IoU > rcnn.near_iou = {options.near_iou:g} with an object of"
                    f" {detector.class_names[label]}; set it lower, or rcnn.box_regression = false"
                )
            done[f"weight/{label}"], done[f"bias/{label}"] = regressor.solve()
            write_arrays(done, file)
            advance()
    for label in range(classes):
        detector.ridge_weight[label] = torch.from_numpy(done[f"weight/{label}"] * scale)
        detector.ridge_bias[label] = torch.from_numpy(done[f"bias/{label}"])


def read_stage(
    file: Path,
    numbers: Mapping[str, tuple[int, ...]],
    counts: Mapping[str, tuple[int, ...]],
    optional: Mapping[str, tuple[int, ...]],
) -> dict[str, Array]:
    """What a stage kept of itself, by name.

    Args:
        numbers: the shapes of arrays of floats that have to be there; -1 is any length.
        counts: likewise of whole numbers from 0.
        optional: likewise of floats that may be there.

    Raises:
        ValueError: the file is damaged, or holds anything else.
    """
    try:
        state = load_file(file)
        for name, shape in {**numbers, **counts, **optional}.items():
            if name not in state:
                if name in optional:
                    continue
                raise ValueError(f"it has no {name}")
            array = state[name]
            fits = array.ndim == len(shape) and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
            if not fits or array.dtype.kind not in ("iu" if name in counts else "f"):
                raise ValueError(f"its {name} is {array.dtype} {array.shape}")
            if not np.isfinite(array).all() or (name in counts and (array < 0).any()):
                raise ValueError(f"its {name} holds numbers that cannot be")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it, and this stage begins again") from None
    return state


def _scale(features: Features, name: str, seed: int) -> float:
    rng = np.random.default_rng(seed)
    count = len(features.windows)
    some = rng.permutation(count)[:NORM_PICTURES]
    return feature_scale(np.concatenate([rng.permutation(features.read(i, name))[:NORM_WINDOWS] for i in some]))


def _fill(detector: RCNN, weight: Array | Tensor, bias: Array | Tensor) -> None:
    detector.svm_weight.copy_(torch.as_tensor(weight))
    detector.svm_bias.copy_(torch.as_tensor(bias))


def _digest(features: Features, *values: Any) -> str:
    """Of the features and what else a stage's result depends on."""
    text = json.dumps([features.about, *values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def _stage(
    console: Console, name: str, total: int, done: int, run: Path, save: Callable[[], None] = lambda: None
) -> Iterator[Callable[[], None]]:
    """A progress bar, and what advances it by one; which also stops after Ctrl-C or SIGTERM, when it has saved."""
    columns = (TextColumn(name), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Bar(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    task, began, start = bar.add_task("", total=total, completed=done), time.perf_counter(), done

    with bar, stop_signals() as stop:

        def advance() -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            if stop.signal and done < total:
                save()
                raise Interrupted(run / LAST, done, stop.signal, f"of {total} ({name})")

        yield advance
    if done > start:
        seconds = time.perf_counter() - began
        console.print(f"{name}: {seconds:.0f} s", highlight=False)
        write_line(run, {"stage": name, "seconds": round(seconds, 1), "done": done - start})
