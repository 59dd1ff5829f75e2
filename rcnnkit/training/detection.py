"""Training Fast R-CNN and Faster R-CNN, whose parts all learn together (or one alone: see `train.rpn_only`)."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from rcnnkit.data.loading import load_batches, load_drawn, once
from rcnnkit.data.rare import repeat_factors
from rcnnkit.data.reading import DataSettings, join_data, read_data
from rcnnkit.data.records import BadData, Dataset, few
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.detectors.settings import PROPOSALS_PER_OBJECT
from rcnnkit.evaluation.crowding import warn_of_cocos_maximum, warn_of_limits
from rcnnkit.evaluation.report import Evaluation, evaluate
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.inference import prepare
from rcnnkit.proposals.store import Store
from rcnnkit.structures import LossSum
from rcnnkit.text import count
from rcnnkit.training.loop import Batch, Task, fit
from rcnnkit.training.proposals import stored_proposals
from rcnnkit.training.run import Run
from rcnnkit.training.start import class_weights, measure_targets, start

log = logging.getLogger("rcnnkit")


class Detection(Task[Dataset]):
    """Objects in pictures, from proposals made before (`store`) or from the detector's own."""

    def __init__(
        self, run: Run, detector: Detector, training: Dataset, validation: Dataset | None, store: Store | None
    ) -> None:
        super().__init__(run, detector, training, validation)
        self.store = store
        self.augmentation = Augmentation(run.settings.augment, run.settings.input)
        labels = training.labels(run.settings.data.use_difficult)
        self.repeats = repeat_factors(labels, self.options.repeat_threshold)

    def batches(self, start: int) -> Generator[Batch]:
        settings = self.run.settings
        return load_batches(
            self.training.records,
            self.augmentation,
            batch=self.options.batch,
            seed=self.options.seed,
            start=start,
            workers=settings.data.workers,
            use_difficult=settings.data.use_difficult,
            store=self.store,
            count=settings.proposals.train_count,
            repeats=self.repeats,
        )

    def validation_batches(self, data: Dataset) -> Generator[Batch]:
        settings, size = self.run.settings, math.ceil(self.options.batch / self.options.accumulate)
        return load_drawn(
            data.records,
            Augmentation(AugmentSettings(flip=0), settings.input),
            once(data.records, size),
            workers=settings.data.workers,
            use_difficult=settings.data.use_difficult,
            store=self.store,
            count=settings.proposals.train_count,
        )

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        sums: dict[str, LossSum] = (model.rpn_loss_sums if self.options.rpn_only else model.loss_sums)(
            inputs, targets, generators
        )
        return sums

    def evaluate(self, data: Dataset) -> Evaluation:
        return evaluate_in(self.run, self.judged, data, self.store)


def train_detector(run: Run) -> Path:
    """Train a Fast R-CNN or Faster R-CNN. Returns, leaves and raises what `rcnnkit.train` does."""
    training, validation = read_splits(run.settings.data)
    settings = run.count_in(len(training))
    if settings.train.rpn_only:
        validation = None  # the head, which is not trained, would be judged
    if missing := training.without_objects(settings.data.use_difficult):
        log.warning("%s has no object to learn %s from; they will not be found", training.name, few(missing))
    detector = start(run, training, Detector)  # before the proposals: weights may be the wrong ones
    if not settings.train.rpn_only:
        head = detector.get_submodule("head")
        assert isinstance(head, BoxHead)
        head.class_weights = class_weights(settings.train, training, head.score_layer)
    warn_of_crowds(detector, training, validation)
    store = None
    if detector.takes_proposals:
        splits = [training] if validation is None else [training, validation]
        store = stored_proposals(settings, splits, run.console)
        if settings.head.measured_targets and not run.resume:
            measure_targets(detector, training, store, settings)
    return fit(Detection(run, detector, training, validation, store))


def evaluate_in(run: Run, detector: Detector, data: Dataset, store: Store | None = None) -> Evaluation:
    """How good a detector is that is being trained."""
    options = run.settings.train
    ready = prepare(detector, options.precision)
    return evaluate(ready, data, proposals=store, batch_size=options.batch, warn=False)


def read_splits(data: DataSettings) -> tuple[Dataset, Dataset | None]:
    """The training and validation pictures, checked.

    Raises:
        BadData: lists what is bad in either, so that all can be mended at once.
        ValueError: there is no object to learn.
    """
    if data.root.is_file() and data.root.suffix in (".json", ".csv"):
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
            f"{training.name} has no object{left_out} in any of its {count(len(training), 'picture')}; nothing to learn"
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
