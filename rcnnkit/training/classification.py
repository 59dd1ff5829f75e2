"""Training a classifier of whole pictures (R-CNN, arXiv:1311.2524v5, section 2.3, "Supervised pre-training")."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

from rich.console import Console

from rcnnkit import weights
from rcnnkit.backbones.classifier import Classifier
from rcnnkit.config import Settings
from rcnnkit.data.class_folders import read_class_splits
from rcnnkit.data.class_loading import load_class_batches
from rcnnkit.data.transforms import ClassifierAugmentation
from rcnnkit.evaluation.accuracy import evaluate_classifier
from rcnnkit.precision import autocast, pick_dtype
from rcnnkit.terminal import safe
from rcnnkit.training.log import write_evaluation
from rcnnkit.training.loop import LabelledBatch, fit
from rcnnkit.training.run_folder import alone, claim
from rcnnkit.training.start import start_detector

log = logging.getLogger("rcnnkit")


@alone
def train_classifier(settings: Settings, run: Path | str, console: Console | None = None) -> Path:
    """Train a classifier on class folders and leave it in a folder of its own; best is the best top-1 accuracy.

    Args, return value, what is left and errors are those of `rcnnkit.training.loop.train`; besides:

    Raises:
        ValueError: there is one class only, or one without a picture.
    """
    run, console = Path(run), safe(console)
    options, data = settings.train, settings.data
    resume = claim(settings, run)
    device = weights.pick_device(options.device)
    dtype = pick_dtype(options.precision, device)
    training, validation = read_class_splits(data.root, data.train, data.val, data.class_names, skip_bad=data.skip_bad)
    if len(training.class_names) < 2:
        raise ValueError(
            f"{training.name} has the class {training.class_names[0]} only, so every picture is right; give it"
            " pictures of another class"
        )
    classifier = start_detector(settings, training, resume)
    assert isinstance(classifier, Classifier)
    if settings.model.pretrained and not (options.init or resume):
        log.info("model.pretrained: the last layer is new, for the %d classes here", len(training.class_names))

    def batches(start: int) -> Generator[LabelledBatch, None, None]:
        return load_class_batches(
            training.records,
            ClassifierAugmentation(settings.augment, settings.classifier),
            batch=options.batch,
            seed=options.seed,
            start=start,
            workers=data.workers,
        )

    def judge() -> dict[str, float]:
        assert validation is not None
        with autocast(device, dtype):
            found = evaluate_classifier(classifier, validation, batch_size=32)
        write_evaluation(run, found.to_json())
        return found.numbers

    shown = ("top1", "class_mean")
    return fit(classifier, training, validation, batches, judge, shown, settings, run, resume, console)
