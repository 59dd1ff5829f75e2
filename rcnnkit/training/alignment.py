"""Training what aligns words with the regions of a detector (arXiv:1412.2306, section 3.1).

The detector stays as it is, so the regions of all pictures and their features are computed once, before the first
iteration.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcnnkit import weights
from rcnnkit.data.class_loading import shuffled
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.detectors.kinds import build, title_of
from rcnnkit.evaluation.aligned import check_sentences, judge, see_all, sentences_of
from rcnnkit.evaluation.retrieval import Retrieval
from rcnnkit.images import Preprocessing
from rcnnkit.inference import prepare
from rcnnkit.structures import LossSum
from rcnnkit.terminal import progress
from rcnnkit.text import count
from rcnnkit.training.detection import read_splits
from rcnnkit.training.loop import fit
from rcnnkit.training.optimizers import Part
from rcnnkit.training.phrases import words_learnt
from rcnnkit.training.preflight import check_disk
from rcnnkit.training.run import Run
from rcnnkit.training.schedule import STATED_BATCH, learning_rate
from rcnnkit.training.start import trained_from
from rcnnkit.training.task import Batch, Task

log = logging.getLogger("rcnnkit")

GB = 1e9
MEASURED = 100_000  # regions, evenly from all, whose features are centred and scaled by
SILENT = 0.5  # share of words without a vector from which it is said


@dataclass(frozen=True, slots=True, eq=False)
class Sentences:
    """Those of some pairs."""

    words: Tensor  # (B, L) int64
    pictures: Tensor  # (B,) int64: which pairs are of one picture

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, part: slice) -> Sentences:
        return Sentences(self.words[part], self.pictures[part])


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pictures with a sentence each."""

    features: Tensor  # (B, 1 + regions, width) float16
    sentences: Sentences
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.sentences)

    def to(self, device: torch.device, _: Preprocessing) -> tuple[Tensor, Sentences]:
        sentences = Sentences(self.sentences.words.to(device), self.sentences.pictures.to(device))
        return self.features.to(device), sentences


class Aligning(Task[Dataset]):
    """Which pictures and sentences belong together.

    Args:
        features: those of the regions of the training pictures and, where there are such, of the validation pictures,
            as `see_all` gives them.
    """

    things = "pairs"

    def __init__(
        self, run: Run, aligner: Aligner, training: Dataset, validation: Dataset | None, features: Sequence[Tensor]
    ) -> None:
        super().__init__(run, aligner, training, validation)
        self.features = features
        self.sentences, self.owners = sentences_of(training)

    def parts(self) -> Sequence[Part]:
        return [(list(self.model.alignment.parameters()), 1.0)]

    def learning_rate(self, iteration: int) -> float:
        """Stated for a batch of pairs: it is not scaled with a number of pictures."""
        return learning_rate(self.options.model_copy(update={"batch": STATED_BATCH}), iteration)

    @property
    def top_rate(self) -> float:
        return self.options.lr_for_16

    def batches(self, start: int) -> Generator[Batch]:
        draws = shuffled(len(self.owners), self.options.batch, self.options.seed)
        for drawn in islice(draws, start, None):
            rows = torch.tensor([row for row, _ in drawn])
            yield pairs(self.training, self.features[0], self.sentences[rows], self.owners[rows])

    def validation_batches(self, data: Dataset) -> Generator[Batch]:
        sentences, owners = sentences_of(data)
        for rows in torch.arange(len(owners)).split(self.part):
            yield pairs(data, self.features[1], sentences[rows], owners[rows])

    def loss_sums(
        self, model: Any, inputs: Any, targets: Any, generators: Sequence[torch.Generator]
    ) -> dict[str, LossSum]:
        return {"alignment": model.alignment.loss_sum(inputs, targets.words, targets.pictures)}

    def evaluate(self, data: Dataset) -> Retrieval:
        result = judge(self.judged.alignment, self.features[1], data)
        if result.silent >= SILENT:
            log.warning(
                "%.0f%% of the words have the vector 0, so that they go with every region alike; lower train.lr_for_16,"
                " leave out alignment.dropout, or set train.optimizer to adamw",
                100 * result.silent,
            )
        return result


def pairs(data: Dataset, features: Tensor, sentences: Tensor, owners: Tensor) -> Pairs:
    """A batch of sentences (B, L) of the pictures at these places (B,)."""
    paths = [data.records[place].path for place in owners.tolist()]
    return Pairs(features[owners], Sentences(sentences, owners), paths)


def train_aligner(run: Run) -> Path:
    """Train the alignment of words and regions on the detector of `train.init`; best is the best mean recall among the
    first 5.

    Returns, leaves and raises what `rcnnkit.train` does; besides:

    Raises:
        ValueError: several processes would train; a split has no sentences, or those of one picture.
    """
    if run.ranks.size > 1:
        raise ValueError("alignment.enabled = true trains in one process; start it without torchrun")
    training, validation = read_splits(run.settings.data)
    splits = [training] if validation is None else [training, validation]
    for data in splits:
        check_sentences(data)
    alignment = run.settings.alignment
    words = words_learnt(training, "alignment", alignment.minimum_count, alignment.words)
    run.settings = run.settings.model_copy(update={"alignment": alignment.model_copy(update={"words": words})})
    splits = [data.with_words(words) for data in splits]
    settings = run.count_in(training.objects)
    aligner = start_aligner(run)
    _say(run, aligner, splits)
    task = Aligning(run, aligner, splits[0], splits[1] if validation else None, ())
    check_disk(task, run)
    if run.dry:
        return run.best
    ready = Aligner(prepare(aligner.detector, settings.train.precision), aligner.alignment)
    with progress(run.console) as report:
        task.features = [see_all(ready, data, progress=report) for data in splits]
    if not run.resume:
        regions = task.features[0].flatten(0, 1)
        aligner.alignment.measure(regions[:: -(-len(regions) // MEASURED)])
    return fit(task)


def start_aligner(run: Run) -> Aligner:
    """What is trained, on the run's device: the detector of `train.init`, and a fresh alignment; a checkpoint will fill
    both.

    Raises:
        ValueError: the weights are not those of a detector of these settings; and as `weights.read`.
    """
    settings, path = run.settings, run.resume or run.settings.train.init
    assert path is not None  # the settings see to it
    about, tensors = weights.read(path)
    if about["kind"] not in (settings.model.kind, Aligner.kind):
        raise ValueError(
            f'train.init = {path} holds a {title_of(about["kind"])}, and model.kind = "{settings.model.kind}"; give the'
            " weights of such a detector, or use `rcnnkit align`, which takes the settings from the weights"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        aligner = build(settings, about["class_names"], about["category_ids"])
    assert isinstance(aligner, Aligner)
    before = "detector." if about["kind"] == Aligner.kind else ""
    own = {name.removeprefix(before): each for name, each in tensors.items() if name.startswith(before)}
    try:
        aligner.detector.load_state_dict({n: t for n, t in own.items() if not n.startswith(weights.TRAINING)})
    except RuntimeError as error:
        raise ValueError(
            f"train.init = {path} does not hold a detector of these settings ({str(error).splitlines()[-1].strip()});"
            " use `rcnnkit align`, which takes them from the weights"
        ) from None
    aligner.origin = trained_from(about.get("origin"))
    return aligner.to(run.device)


def _say(run: Run, aligner: Aligner, splits: Sequence[Dataset]) -> None:
    """What is trained on what."""
    options, (training, *others) = run.settings.train, splits
    judged = f"; evaluated on {others[0].name}, {_size(others[0])}" if others else ""
    number = sum(each.numel() for each in aligner.alignment.parameters())
    feature_bytes = len(training) * (1 + aligner.alignment.settings.regions) * aligner.detector.region_width * 2
    run.say(
        f"{training.name}: {_size(training)}{judged}; {number / 1e6:.1f} M weights to train on {run.device} beside a"
        f" {title_of(aligner.detector.kind)}; {count(options.iterations, 'iteration')} of {options.batch} pairs,"
        f" learning rate {options.lr_for_16:.4g}; the features of the regions take {feature_bytes / GB:.2g} GB of"
        f" memory; run folder {run.folder}"
    )


def _size(data: Dataset) -> str:
    return f"{count(len(data), 'picture')} with {count(data.objects, 'sentence')}"
