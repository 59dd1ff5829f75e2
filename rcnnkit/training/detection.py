"""Training Fast R-CNN and Faster R-CNN, whose parts all learn together (or one alone: see `train.rpn_only`)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rcnnkit.config_files import read_settings
from rcnnkit.data.hold_out import hold_out
from rcnnkit.data.loading import Draw, Pictures, draws, largest_draw, load_batch, load_batches, once
from rcnnkit.data.rare import repeat_factors
from rcnnkit.data.reading import DataSettings, join_data, read_data
from rcnnkit.data.records import BadData, Dataset, Problem, Record, few
from rcnnkit.data.sizes import input_sides
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.detectors.detector import Detector, Limit
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.settings import PROPOSALS_PER_OBJECT
from rcnnkit.evaluation.crowding import warn_of_cocos_maximum, warn_of_limits
from rcnnkit.evaluation.report import Evaluation, judge, look
from rcnnkit.heads.adversary import Adversary
from rcnnkit.heads.box_head import BoxHead
from rcnnkit.images import Preprocessing
from rcnnkit.inference import prepare
from rcnnkit.proposals.fit import REACHED, reach
from rcnnkit.proposals.methods import PictureMethod
from rcnnkit.proposals.store import Store
from rcnnkit.structures import LossSum
from rcnnkit.text import count
from rcnnkit.training.loop import fit
from rcnnkit.training.phrases import learn_words
from rcnnkit.training.preflight import duration, list_counts, preflight
from rcnnkit.training.proposals import stored_proposals, trial_proposals
from rcnnkit.training.ranks import first_here, readers
from rcnnkit.training.run import Run
from rcnnkit.training.start import add_adversary, class_weights, measure_targets, start
from rcnnkit.training.task import Batch, Task

log = logging.getLogger("rcnnkit")
MISSED = 0.8  # share of objects that anchors reach from which nothing need be done about it
AT_A_TIME = 16  # most pictures in an evaluation; a batch of a training by many processes may not fit into one
LOOKED_AT = 20_000  # objects, evenly from all, that the share is of


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
        if run.settings.input.tile:  # an epoch shows as many tiles as there are
            tiles = run.settings.input.parts_of_each(training.flat.sizes)
            self.repeats = tiles * (1.0 if self.repeats is None else self.repeats)
        self.adversaries = [part for part in detector.modules() if isinstance(part, Adversary)]

    def batches(self, start: int) -> Generator[Batch]:
        records, share = self.training.records, self.ranks.share(self.whole)
        batch_draws = (each[share] for each in draws(records, self.options.batch, self.options.seed, self.repeats))
        workers = readers(self.run.settings.data.workers)
        return load_batches(self._pictures(records, self.augmentation), batch_draws, start=start, workers=workers)

    def _pictures(self, records: Sequence[Record], augmentation: Augmentation) -> Pictures:
        settings = self.run.settings
        return Pictures(records, augmentation, settings.data.use_difficult, self.store, settings.proposals.train_count)

    def largest_batch(self) -> tuple[Callable[[], Batch], float]:
        """What reads the batch that takes most memory, and how many pixels others have, as a share of its own."""
        shape, draw, usual = self._largest()
        most = self.run.settings.augment.scale[1]
        augmentation = Augmentation(AugmentSettings(scale=(most, most)), shape.model_copy(update={"scales": ()}))
        pictures = self._pictures(self.training.records, augmentation)
        return lambda: load_batch(pictures, draw), usual

    def largest_records(self) -> list[Record]:
        """The pictures in that batch, each once."""
        return [self.training.records[index] for index in dict.fromkeys(index for index, _ in self._largest()[1])]

    def _largest(self) -> tuple[Preprocessing, list[Draw], float]:
        shape = self.run.settings.input.at(max(self.model.short_sides))
        return shape, *largest_draw(self.training.records, shape, math.ceil(self.whole / self.ranks.size))

    def facts(self) -> list[str]:
        """The objects, class by class, pictures without any, and how many objects anchors reach."""
        settings, data = self.run.settings, self.training
        facts = [object_counts(data, settings.data.use_difficult, all_classes=self.run.dry)]
        if isinstance(self.model, FasterRCNN):
            sides = input_sides(data, settings.input, settings.data.use_difficult)
            some = sides[:: -(-len(sides) // LOOKED_AT)]
            share = float(reach(some, settings.rpn, settings.model.strides).mean())
            fitted = "rpn.anchor_sizes" in self.run.notes
            facts.append(
                f"anchors reach {share:.1%} of the objects at an IoU of {REACHED}"
                + "; `rcnnkit suggest` fits them" * (share < MISSED and not fitted)
            )
        for adversary in self.adversaries:
            facts.append(f"the adversary, {settings.adversary.kind}, {adversary.plan(self.options.iterations)}")
        return facts

    def validation_batches(self, data: Dataset) -> Generator[Batch]:
        settings = self.run.settings
        pictures = self._pictures(data.records, Augmentation(AugmentSettings(flip=0), settings.input))
        own = islice(once(data.records, self.part), self.ranks.rank, None, self.ranks.size)
        return load_batches(pictures, own, workers=readers(settings.data.workers))

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        for adversary in self.adversaries:
            adversary.at(self.run.progress.iteration, self.options.iterations)
        sums: dict[str, LossSum] = (model.rpn_loss_sums if self.options.rpn_only else model.loss_sums)(
            inputs, targets, generators
        )
        return sums

    def evaluate(self, data: Dataset) -> Evaluation | None:
        return evaluate_in(self.run, self.judged, data, self.store)


def object_counts(data: Dataset, use_difficult: bool, *, all_classes: bool) -> str:
    """The objects to learn from, class by class, and the share of pictures without any.

    Args:
        all_classes: list all classes, however many.
    """
    learnt = data.learnt(use_difficult)
    labels = data.flat.objects["label"][learnt]
    counts = np.bincount(labels, minlength=len(data.class_names)).tolist()
    text = list_counts(dict(zip(data.class_names, counts, strict=True)), all_classes)
    full = np.unique(np.repeat(np.arange(len(data)), data.flat.counts)[learnt])
    empty = 1 - len(full) / len(data)
    return f"{count(len(labels), 'object')}: {text}; {empty:.1%} of the pictures have none"


def train_detector(run: Run, trial: PictureMethod | None = None) -> Path:
    """Train a Fast R-CNN or Faster R-CNN. Returns, leaves and raises what `rcnnkit.train` does.

    Args:
        trial: finds proposals in a dry run, in place of the settings' own method.
    """
    training, validation = read_splits(run.settings.data)
    training, validation = learn_words(run, training, validation)
    settings = run.count_in(int(run.settings.input.parts_of_each(training.flat.sizes).sum()))
    if settings.train.rpn_only:
        validation = None  # the head, which is not trained, would be judged
    if missing := training.without_objects(settings.data.use_difficult):
        log.warning("%s has no object to learn %s from; they will not be found", training.name, few(missing))
    detector = start(run, training, Detector)  # before the proposals: weights may be the wrong ones
    if settings.adversary.kind != "none":
        add_adversary(detector, settings)
    if not settings.train.rpn_only:
        for head in (part for part in detector.modules() if isinstance(part, BoxHead)):
            head.class_weights = class_weights(settings.train, training, head.score_layer)
    warn_of_crowds(detector, training, validation)
    store = None
    if detector.takes_proposals and run.dry:
        return _try_proposals(Detection(run, detector, training, validation, None), trial)
    if detector.takes_proposals:
        splits = [training] if validation is None else [training, validation]
        store = stored_proposals(settings, splits, run.console, run.ranks)
        if settings.head.measured_targets and not run.resume:
            measure_targets(detector, training, store, settings)
    task = Detection(run, detector, training, validation, store)
    preflight(task, run, *task.largest_batch(), task.facts)
    return run.best if run.dry else fit(task)


def _try_proposals(task: Detection, method: PictureMethod | None) -> Path:
    """The dry run of a detector that learns from proposals made before: with its own, or with those of one batch."""
    run, training = task.run, task.training
    splits = [training] if task.validation is None else [training, task.validation]
    some = replace(training, records=task.largest_records())
    with trial_proposals(run.settings, splits, some, run.console, method) as (task.store, seconds):
        if seconds and method is None:
            run.say(time_of_proposals(seconds, sum(map(len, splits))))
        preflight(task, run, *task.largest_batch(), task.facts)
    return run.best


def time_of_proposals(seconds: float, pictures: int) -> str:
    """What a dry run says where proposals are yet to be computed, of so many pictures, in so many seconds each."""
    left = duration(timedelta(seconds=seconds * pictures))
    return f"the proposals of {count(pictures, 'picture')} are computed first, which takes {left}"


def evaluate_in(run: Run, detector: Detector, data: Dataset, store: Store | None = None) -> Evaluation | None:
    """How good a detector is that is being trained; None in all processes but the first of several.

    All look at the batches that one process would look at, in turn, so that pictures are padded likewise.
    """
    options = run.settings.train
    ready = prepare(detector, options.precision)
    size = min(options.batch, AT_A_TIME)
    workers = readers(run.settings.data.workers)
    parts = run.ranks.at_first(
        look(ready, data, proposals=store, batch_size=size, workers=workers, turns=run.ranks.turns)
    )
    return None if parts is None else judge(parts, data)


def read_splits(data: DataSettings, *, announce: bool = True) -> tuple[Dataset, Dataset | None]:
    """The training and validation pictures, checked.

    Args:
        announce: as `read_data` takes it.

    Raises:
        BadData: lists what is bad in either, so that all can be fixed at once.
        ValueError: there is no object to learn.
    """
    if data.root.is_file() and data.root.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f'data.root = "{data.root}" is a file; give its folder, and the files as data.train and data.val'
        )
    splits: list[Dataset] = []
    bad: list[BadData] = []
    failures: list[tuple[str, Exception]] = []
    class_names = data.class_names
    parts = [data.train] if isinstance(data.train, str) else data.train
    with first_here():
        for split in [*parts, data.val] if data.val else parts:
            try:
                dataset = read_data(
                    data.root,
                    split,
                    format=data.format,
                    images=data.images,
                    class_names=class_names,
                    skip_bad=data.skip_bad,
                    check_pictures=data.check_pictures,
                    announce=announce,
                )
                splits.append(dataset)
                class_names = list(dataset.class_names)
            except BadData as error:
                bad.append(error)
                class_names = class_names or list(error.class_names) or None
            except (OSError, ValueError) as error:
                failures.append((split, error))
    if failures and not bad and len(failures) == 1:
        raise failures[0][1]
    if bad or failures:
        problems = [Problem(str(data.root), f"split {split!r}", str(error)) for split, error in failures]
        problems += [problem for e in bad for problem in e.problems]
        name = " and ".join([*(e.name for e in bad), *(f"{data.root.name}/{split}" for split, _ in failures)])
        raise BadData(name, problems, nothing_left=bool(failures) or any(e.nothing_left for e in bad))
    training = join_data(splits[: len(parts)])
    if len(training.without_objects(data.use_difficult)) == len(training.class_names):
        some = len(training.flat.objects) > 0
        left_out = ", only crowds and difficult ones," if some else ""
        raise ValueError(
            f"{training.name} has no object{left_out} in any of its {count(len(training), 'picture')}; nothing to learn"
        )
    if data.val_share:
        return hold_out(training, data.val_share, data.split_seed)
    return training, splits[-1] if data.val else None


def read_validation(run: Path, class_names: Sequence[str] | None = None) -> Dataset:
    """The pictures that a run is evaluated on, from its folder.

    Args:
        class_names: in the order of the labels; by default those of the data.

    Raises:
        FileNotFoundError, ValueError: there is no such run, or it has none; and as `read_splits`.
    """
    data = read_settings(run / "settings.toml").data
    if class_names is not None:
        data = data.model_copy(update={"class_names": list(class_names)})
    _, validation = read_splits(data)
    if validation is None:
        raise ValueError(f"{run} was trained without pictures to evaluate on; name a data set and --split")
    return validation


def warn_of_crowds(detector: Detector, training: Dataset, validation: Dataset | None) -> None:
    """Log which pictures hold more objects than the settings, or COCO's AP, let through."""

    def fix(limit: Limit, most: int) -> str:
        if limit.setting.endswith("max_detections"):
            return f"set it to {most} or more, or to 0 for no limit"
        return f"set it to {PROPOSALS_PER_OBJECT * most}"  # a few of each object

    warn_of_limits(training, detector.limits(training=True), fix, detector.preprocessing)
    if validation is not None:
        warn_of_limits(validation, detector.limits(), fix, detector.preprocessing)
        warn_of_cocos_maximum(validation)
