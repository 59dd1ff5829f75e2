"""Training a classifier of whole pictures (R-CNN, arXiv:1311.2524v5, section 2.3, "Supervised pre-training")."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator
from pathlib import Path

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.data.class_folders import ClassFolders, read_class_splits
from rcnnkit.data.class_loading import load_class_batch, load_class_batches
from rcnnkit.data.transforms import ClassifierAugmentation
from rcnnkit.evaluation.accuracy import Accuracy, evaluate_classifier
from rcnnkit.precision import autocast
from rcnnkit.training.loop import Batch, Task, fit
from rcnnkit.training.preflight import list_counts, preflight
from rcnnkit.training.run import Run
from rcnnkit.training.start import start

log = logging.getLogger("rcnnkit")


class Classification(Task[ClassFolders]):
    """The class of a whole picture."""

    def batches(self, start: int) -> Generator[Batch]:
        settings = self.run.settings
        return load_class_batches(
            self.training.records,
            ClassifierAugmentation(settings.augment, settings.classifier),
            batch=self.options.batch,
            seed=self.options.seed,
            start=start,
            workers=settings.data.workers,
        )

    def a_batch(self) -> Batch:
        """The first pictures; all batches take the same memory."""
        settings = self.run.settings
        augmentation = ClassifierAugmentation(settings.augment, settings.classifier)
        return load_class_batch(self.training.records, augmentation, self.options.batch)

    def facts(self) -> list[str]:
        """The pictures, class by class."""
        counts = Counter(example.label for example in self.training.records)
        names = self.training.class_names
        return [f"pictures: {list_counts({name: counts[i] for i, name in enumerate(names)}, self.run.dry)}"]

    def evaluate(self, data: ClassFolders) -> Accuracy:
        with autocast(self.run.device, self.run.dtype):
            return evaluate_classifier(self.model, data, batch_size=32)


def train_classifier(run: Run) -> Path:
    """Train a classifier on class folders; best is the best top-1 accuracy.

    Returns, leaves and raises what `rcnnkit.train` does; besides:

    Raises:
        ValueError: there is one class only, or one without a picture.
    """
    settings, data = run.settings, run.settings.data
    training, validation = read_class_splits(data.root, data.train, data.val, data.class_names, skip_bad=data.skip_bad)
    if len(training.class_names) < 2:
        raise ValueError(
            f"{training.name} has the class {training.class_names[0]} only, so every picture is right; give it"
            " pictures of another class"
        )
    classifier = start(run, training, Classifier)
    if settings.model.pretrained and not (settings.train.init or run.resume):
        log.info("model.pretrained: the last layer is new, for the %d classes here", len(training.class_names))
    task = Classification(run, classifier, training, validation)
    preflight(task, run, task.a_batch, 1.0, task.facts)
    return run.best if run.dry else fit(task, run)
