"""Training a classifier of whole pictures (R-CNN, arXiv:1311.2524v5, section 2.3, "Supervised pre-training")."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.data.class_folders import ClassFolders, read_class_splits
from rcnnkit.data.class_loading import load_class_batch, load_class_batches, load_each_once, shuffled
from rcnnkit.data.rare import repeat_factors
from rcnnkit.data.transforms import ClassifierAugmentation
from rcnnkit.evaluation.accuracy import Accuracy, accuracy_of, score
from rcnnkit.precision import autocast
from rcnnkit.structures import LossSum
from rcnnkit.training.loop import fit
from rcnnkit.training.preflight import list_counts, preflight
from rcnnkit.training.ranks import in_turn, readers
from rcnnkit.training.run import Run
from rcnnkit.training.start import class_weights, start
from rcnnkit.training.task import Batch, Task

log = logging.getLogger("rcnnkit")


class Classification(Task[ClassFolders]):
    """The class of a whole picture."""

    def __init__(
        self, run: Run, classifier: Classifier, training: ClassFolders, validation: ClassFolders | None
    ) -> None:
        super().__init__(run, classifier, training, validation)
        self.augmentation = ClassifierAugmentation(run.settings.augment, run.settings.classifier)

    def batches(self, start: int) -> Generator[Batch]:
        settings = self.run.settings
        records, share = self.training.records, self.ranks.share(self.whole)
        repeats = repeat_factors([[record.label] for record in records], self.options.repeat_threshold)
        draws = (draw[share] for draw in shuffled(len(records), self.options.batch, self.options.seed, repeats))
        workers = readers(settings.data.workers)
        return load_class_batches(records, self.augmentation, draws, start=start, workers=workers)

    def a_batch(self) -> Batch:
        """The first pictures; all batches take the same memory."""
        settings = self.run.settings
        augmentation = ClassifierAugmentation(settings.augment, settings.classifier)
        return load_class_batch(self.training.records, augmentation, math.ceil(self.whole / self.ranks.size))

    def facts(self) -> list[str]:
        """The pictures, class by class."""
        counts = Counter(example.label for example in self.training.records)
        names = self.training.class_names
        return [f"pictures: {list_counts({name: counts[i] for i, name in enumerate(names)}, self.run.dry)}"]

    def validation_batches(self, data: ClassFolders) -> Generator[Batch]:
        workers = readers(self.run.settings.data.workers)
        return load_each_once(data.records, self.model.see, batch=self.part, workers=workers, turns=self.ranks.turns)

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        sums: dict[str, LossSum] = model.loss_sums(inputs, targets)  # nothing is drawn
        return sums

    def evaluate(self, data: ClassFolders) -> Accuracy | None:
        with autocast(self.run.device, self.run.dtype):
            scores = self.ranks.at_first(score(self.judged, data, batch_size=32, turns=self.ranks.turns))
        return None if scores is None else accuracy_of(in_turn(scores), data)


def train_classifier(run: Run) -> Path:
    """Train a classifier on class folders; best is the best top-1 accuracy.

    Returns, leaves and raises what `rcnnkit.train` does; besides:

    Raises:
        ValueError: there is one class only, or one without a picture.
    """
    data = run.settings.data
    training, validation = read_class_splits(data.root, data.train, data.val, data.class_names, skip_bad=data.skip_bad)
    if len(training.class_names) < 2:
        raise ValueError(
            f"{training.name} has the class {training.class_names[0]} only, so every picture is right; give it"
            " pictures of another class"
        )
    settings = run.count_in(len(training))
    classifier = start(run, training, Classifier)
    classifier.class_weights = class_weights(settings.train, training, classifier.score_layer)
    if settings.model.pretrained and not (settings.train.init or run.resume):
        log.info("model.pretrained: the last layer is new, for the %d classes here", len(training.class_names))
    task = Classification(run, classifier, training, validation)
    preflight(task, run, task.a_batch, 1.0, task.facts)
    return run.best if run.dry else fit(task)
