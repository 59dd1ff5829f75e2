"""R-CNN's training, stage by stage (Girshick et al. 2014, arXiv:1311.2524v5, section 2.3, appendices B and C).

Proposals → fine-tuning → features of every window → SVMs → box regression. Each stage goes on from what it finds of
itself in the run's folder:

    last.safetensors            fine-tuning so far; at its end, the network of the stages after it
    features/                   see `rcnnkit.training.features`
    svms-….safetensors          the SVMs so far; the name says what they depend on
    boxes-….safetensors         the box regression of the classes done so far, likewise
    best.safetensors            the detector
    before-mining.safetensors   the same with the SVMs of the first training, to see what mining is worth

Several processes share out the windows of fine-tuning, the pictures whose features are computed, and those of the
evaluation. SVMs and box regression are the first process's: all their features pass through it one after another.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rcnnkit import weights
from rcnnkit.boxes import encode
from rcnnkit.config import Settings
from rcnnkit.data.proposals import read_proposals
from rcnnkit.data.records import Dataset, few
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.heads.box_ridge import BoxRidge
from rcnnkit.heads.svm import SVMSettings, SVMTrainer, feature_scale
from rcnnkit.inference import prepare
from rcnnkit.proposals.store import Store
from rcnnkit.text import count
from rcnnkit.training.checkpoint import BEST
from rcnnkit.training.detection import evaluate_in, object_counts, read_splits, time_of_proposals, warn_of_crowds
from rcnnkit.training.features import GB, Array, Features, fingerprint, write_arrays
from rcnnkit.training.fine_tuning import FineTuning
from rcnnkit.training.loop import iterate
from rcnnkit.training.preflight import duration, preflight
from rcnnkit.training.proposals import stored_proposals, trial_proposals
from rcnnkit.training.ranks import may_restart
from rcnnkit.training.run import Run
from rcnnkit.training.stage import read_stage, stage
from rcnnkit.training.start import start
from rcnnkit.training.windows import Pictures, Windows
from rcnnkit.training.windows import fingerprint as fingerprint_of_windows

BEFORE_MINING = "before-mining.safetensors"
NORM_PICTURES, NORM_WINDOWS = 200, 200  # at most so many are measured for the features' mean length (released code)
SVMs = tuple[Array, Array, str]  # weight (K, D) and bias (K,) of features as the network gives them, and their file
TRIED = 4  # pictures whose proposals and features tell a dry run about all
SAVE_SECONDS = 60.0  # between states of the SVMs on disk


def train_rcnn(run: Run) -> Path:
    """Train R-CNN. Returns, leaves and raises what `rcnnkit.train` does; besides:

    Raises:
        ValueError: a class has no object, a picture has no proposals or another picture's, features on disk are of
            another network, or settings ask for what there is not: all before anything is trained.
    """
    settings, ranks = run.settings, run.ranks
    training, validation = read_splits(settings.data)
    _check(settings, training)
    detector = start(run, training, RCNN)  # before the proposals: weights may be the wrong ones
    warn_of_crowds(detector, training, validation)
    if run.dry:
        return _dry_run(run, detector, training, validation)
    store = stored_proposals(settings, [training] if validation is None else [training, validation], run.console, ranks)
    windows = read_windows(settings, training, store)
    pictures = Pictures(windows, detector, settings.feature_store.memory_gb)
    tuning = FineTuning(run, detector, training, pictures)
    tuning.restore()
    features = plan_features(detector, pictures, run, training)
    if len(set(ranks.gathered(features.about["windows"]))) > 1:
        raise ValueError("processes have read other proposals; set proposals.folder to one that all machines share")
    unfinished = settings.rcnn.fine_tune and run.progress.iteration < settings.train.iterations
    _say_before(tuning, unfinished, features.bytes, 1.0)
    if unfinished and ranks.first:
        features.renew(own=settings.feature_store.folder is None)
    if unfinished and may_restart() and not run.resume:
        tuning.save()  # to restart from, whenever that is
        run.writer.wait()
    run.keep_settings()
    if unfinished:
        iterate(tuning)
    elif not settings.rcnn.fine_tune:
        tuning.save()
        run.writer.wait()
    detector.eval()
    ranks.spread(list(detector.state_dict().values()))  # statistics of norms are of each process's own windows
    about: dict[str, Any] = {"iteration": run.progress.iteration, "data": training.name}
    if settings.rcnn.scorer == "svm" or settings.rcnn.box_regression:
        make_features(detector, features, run)
    if ranks.first:
        _finish(detector, features, run, about)
    ranks.meet()
    if validation is not None:
        ranks.spread(list(detector.buffers()))
        result = evaluate_in(run, detector, validation, store)
        if result is not None:
            run.log({"stage": "evaluation", **result.numbers})
            run.save_best(detector, about | run.evaluated(result, validation.name))
        ranks.meet()
    return run.best


def _finish(detector: RCNN, features: Features, run: Run, about: dict[str, Any]) -> None:
    """What comes after the features, as far as it is asked for; fills the detector, and writes it."""
    options = run.settings.rcnn
    svms = train_svms(detector, features, run) if options.scorer == "svm" else []
    if options.box_regression:
        train_boxes(detector, features, run)
    for weight, bias, file in svms:
        detector.svm_weight.copy_(torch.from_numpy(weight))
        detector.svm_bias.copy_(torch.from_numpy(bias))
        weights.save(detector, run.settings, run.folder / file, about)
    if not svms:
        run.save_best(detector, about)


def _dry_run(run: Run, detector: RCNN, training: Dataset, validation: Dataset | None) -> Path:
    """All before the first iteration, and a batch of it; of a few pictures where not all have proposals yet."""
    settings, splits = run.settings, [training] if validation is None else [training, validation]
    learnt = zip(training.records, training.labels(settings.data.use_difficult), strict=True)
    objects = [record for record, labels in learnt if len(labels)]
    sample = replace(training, records=objects[:: math.ceil(len(objects) / TRIED)])
    with trial_proposals(settings, splits, sample, run.console) as (store, seconds):
        if seconds:
            run.say(time_of_proposals(seconds, sum(map(len, splits))))
        windows = read_windows(settings, sample if seconds else training, store)
        pictures = Pictures(windows, detector, settings.feature_store.memory_gb)
        features = plan_features(detector, pictures, run, training)
        _say_before(
            FineTuning(run, detector, training, pictures),
            settings.rcnn.fine_tune,
            features.bytes,
            len(training) / len(windows),
        )
        if any(features.widths):
            detector.eval()
            began, number = time.perf_counter(), min(TRIED, len(windows))
            for picture in range(number):
                features.compute(picture)
            left = duration(timedelta(seconds=(time.perf_counter() - began) / number * len(training)))
            run.say(f"the features of {count(len(training), 'picture')} take {left}, before SVMs and box regression")
    return run.best


def _say_before(tuning: FineTuning, fine_tune: bool, nbytes: int, times: float) -> None:
    """What is trained on what, and of a new run whether a batch fits, and the disk that features take.

    Args:
        nbytes: bytes of features of the pictures that were looked at.
        times: how many times as many there are in all.
    """
    run, training = tuning.run, tuning.training
    windows = sum(map(len, tuning.pictures.windows)) * times
    about = "about " * (times > 1)

    def facts() -> list[str]:
        return [
            object_counts(training, run.settings.data.use_difficult, all_classes=run.dry),
            f"{about}{count(round(windows), 'window')}, {windows / len(training):.0f} a picture;"
            f" features: {about}{min(nbytes * times, run.settings.feature_store.disk_gb * GB) / GB:.2g} GB of disk",
        ]

    if fine_tune:
        preflight(tuning, run, *tuning.largest_batch(), facts)
        return
    run.say(
        f"{training.name}: {count(len(training), 'picture')}, {count(len(training.class_names), 'class')}; on"
        f" {run.device} in {run.precision}; run folder {run.folder}"
    )
    for fact in facts():
        run.say(fact)


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
            "rcnn.fine_tune = false leaves the network as it is, and its weights are random; set"
            " model.pretrained = true or train.init, or fine-tune it"
        )
    if rcnn.scorer == "softmax" and not rcnn.fine_tune:
        about = weights.read_shapes(settings.train.init)[0] if settings.train.init else {}
        if (about.get("kind"), about.get("class_names")) != ("rcnn", list(training.class_names)):
            raise ValueError(
                'rcnn.scorer = "softmax" are of the fine-tuned classifier; set rcnn.fine_tune = true, or train.init to'
                " an R-CNN of the same classes"
            )
    unused = {"crop", "brightness", "contrast", "saturation", "hue", "scale"}
    changed = settings.augment.model_dump(exclude_defaults=True).keys() & unused
    if changed:
        raise ValueError(f"augment.{min(changed)} is not for R-CNN, whose windows are only flipped; leave it out")


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


def plan_features(detector: RCNN, pictures: Pictures, run: Run, training: Dataset) -> Features:
    """What stage 3 will compute, and where it will be kept. Raises as `Features`."""
    settings = run.settings

    @functools.cache  # first called when the network is fine-tuned
    def ready() -> RCNN:
        return prepare(detector, settings.train.precision)

    def compute(picture: int) -> tuple[Tensor, Tensor]:
        pixels = pictures.pixels(picture)
        boxes = pictures.boxes(picture, pixels).to(detector.device)
        with torch.inference_mode():
            found = ready().compute_features(pixels.to(detector.device), boxes)
        return found["fc7" if detector.settings.scorer == "softmax" else detector.settings.layer], found["pool5"]

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
        "precision": str(run.dtype),
        "near_iou": settings.rcnn.near_iou,
    }
    widths = detector.backbone.widths
    return Features(
        settings.feature_store.model_copy(update={"folder": settings.feature_store.folder or run.folder / "features"}),
        about,
        pictures.windows,
        compute,
        (
            widths[detector.settings.layer] if detector.settings.scorer == "svm" else 0,
            widths["pool5"] if detector.settings.box_regression else 0,
        ),
        settings.rcnn.near_iou,
    )


def make_features(detector: RCNN, features: Features, run: Run) -> None:
    """Stage 3: what the network makes of every window. Several processes have one picture in turn.

    Raises:
        ValueError: the folder holds the features of another network, or is not one that all processes see.
        Interrupted: Ctrl-C; the pictures done so far stay.
    """
    ranks, network, total = run.ranks, fingerprint(detector.backbone), len(features.windows)
    missing = ranks.from_first(features.begin(network) if ranks.first else [])
    features.join(network)
    if missing:
        note = "; the others are computed again when they are needed" if features.stored < total else ""
        run.say(
            f"features of {features.stored} of {count(total, 'picture')} go to disk, {features.bytes / 1e9:.3g} GB in"
            f" {features.folder}{note}"
        )
    own = missing[ranks.turns]
    with stage(run, "features", total, total - len(own)) as advance:
        for picture in own:
            features.make(picture)
            advance()
    ranks.meet()


def train_svms(detector: RCNN, features: Features, run: Run) -> list[SVMs]:
    """Stage 4: one SVM per class, with hard negatives from all pictures.

    Returns:
        Those after the first training, where there was mining, and the last.
    """
    settings, windows = run.settings, features.windows
    options = settings.rcnn
    scale = _scale(features, "norms", settings.train.seed)
    labels = torch.cat([each.objects.labels for each in windows]).numpy()
    objects = np.concatenate([features.read(i, "objects") * scale for i in range(len(windows))])
    svm_settings = options.model_dump(include={*SVMSettings.model_fields})
    classes = len(detector.class_names)
    trainer = SVMTrainer(
        [objects[labels == label] for label in range(classes)],
        detector.class_names,
        options,
        os.cpu_count() or 1,
    )
    file = run.folder / f"svms-{_digest(features, svm_settings, options.mining, options.passes, scale)}.safetensors"
    steps = len(windows) * options.passes
    first, step = None, 0

    def scaled(picture: int) -> Array:
        return features.all(picture) * scale

    if file.exists():
        svms = {"weight": detector.svm_weight.shape, "bias": (classes,)}
        counts: dict[str, tuple[int, ...]] = {"seen": (1,), "trainings": (classes,), "added": (classes,)}
        keys = {f"keys/{label}": (-1, 2) for label in range(classes)}
        state = read_stage(file, svms, counts | keys, {f"first_{name}": shape for name, shape in svms.items()})
        step = int(state["seen"][0])
        if "first_bias" in state:
            first = state["first_weight"], state["first_bias"]
        if step < steps:
            trainer.restore(state, scaled)
        else:
            trainer.weight, trainer.bias = state["weight"], state["bias"]

    def save() -> None:
        firsts = {} if first is None else {"first_weight": first[0], "first_bias": first[1]}
        write_arrays(trainer.state() | firsts | {"seen": np.array([step])}, file)

    save_time = time.perf_counter()
    with stage(run, "SVMs", steps, step, save) as advance:
        while step < steps:
            picture = step % len(windows)
            trained = trainer.see(picture, scaled(picture), windows[picture].overlaps(classes), last=step == steps - 1)
            step += 1
            for label in trained:
                negatives, trainings = len(trainer.negatives[label]), int(trainer.trainings[label])
                values = {"picture": step, "class": detector.class_names[label], "training": trainings}
                run.log({"stage": "svms", **values, "positives": len(trainer.positives[label]), "kept": negatives})
            if first is None and trainer.trainings.all():
                first = trainer.weight.copy(), trainer.bias.copy()
                if not options.mining:
                    step = steps
            if trained and (step == steps or time.perf_counter() - save_time > SAVE_SECONDS):
                save()
                save_time = time.perf_counter()
            advance()
    before = [(first[0] * scale, first[1], BEFORE_MINING)] if first is not None and options.mining else []
    return [*before, (trainer.weight * scale, trainer.bias, BEST)]


def train_boxes(detector: RCNN, features: Features, run: Run) -> None:
    """Stage 5: the box regression of each class, from windows near its objects; fills the detector's."""
    options = run.settings.rcnn
    scale = _scale(features, "pool5_norms", run.settings.train.seed)
    file = run.folder / f"boxes-{_digest(features, options.ridge, scale)}.safetensors"
    classes = len(detector.class_names)
    boxes = {"weight": detector.ridge_weight.shape[1:], "bias": detector.ridge_bias.shape[1:]}
    shapes = {f"{name}/{label}": shape for name, shape in boxes.items() for label in range(classes)}
    layers = read_stage(file, {}, {}, shapes) if file.exists() else {}
    with stage(run, "box regression", classes, len(layers) // 2) as advance:
        for label in range(classes):
            if f"weight/{label}" in layers:
                continue
            regressor = BoxRidge(detector.backbone.widths["pool5"], options.ridge)
            for picture, windows in enumerate(features.windows):
                near, index = windows.near(options.near_iou)
                of_class = windows.objects.labels[index] == label
                if of_class.any():
                    deltas = encode(windows.objects.boxes[index[of_class]], windows.boxes[near[of_class]])
                    regressor.add(features.read(picture, "near")[of_class.numpy()] * scale, deltas.numpy())
            if not regressor.count:
                raise ValueError(
                    f"no window has IoU > rcnn.near_iou = {options.near_iou:g} with an object of"
                    f" {detector.class_names[label]}; set it lower, or rcnn.box_regression = false"
                )
            layers[f"weight/{label}"], layers[f"bias/{label}"] = regressor.solve()
            write_arrays(layers, file)
            advance()
    for label in range(classes):
        detector.ridge_weight[label] = torch.from_numpy(layers[f"weight/{label}"] * scale)
        detector.ridge_bias[label] = torch.from_numpy(layers[f"bias/{label}"])


def _scale(features: Features, name: str, seed: int) -> float:
    rng = np.random.default_rng(seed)
    count = len(features.windows)
    some = rng.permutation(count)[:NORM_PICTURES]
    return feature_scale(np.concatenate([rng.permutation(features.read(i, name))[:NORM_WINDOWS] for i in some]))


def _digest(features: Features, *values: Any) -> str:
    """Of the features and what else a stage's result depends on."""
    text = json.dumps([features.about, *values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
