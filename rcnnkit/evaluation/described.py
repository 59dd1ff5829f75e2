"""What a detector says of objects whose true boxes it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from rcnnkit.data.records import Dataset
from rcnnkit.defaults import BATCH
from rcnnkit.detectors.densecap import DenseCap
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.evaluation.report import in_eval_mode
from rcnnkit.evaluation.sentences import PACKAGE, meteor, sentence_scores
from rcnnkit.images import read_picture
from rcnnkit.progress import Report, silent
from rcnnkit.structures import Proposals
from rcnnkit.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Described:
    """The phrase of each object of a data set, and the one that it is annotated with."""

    said: list[str]
    wanted: list[str]
    scores: Mapping[str, float]  # METEOR's mean under its name, and BLEU, ROUGE-L and CIDEr-D where they are installed

    @property
    def whole(self) -> float:
        """The share of phrases of which every word is right. METEOR does not see relations that are swapped."""
        return sum(said == wanted for said, wanted in zip(self.said, self.wanted, strict=True)) / len(self.said)

    def to_json(self) -> dict[str, Any]:
        return {"whole_phrases": self.whole, **self.scores}


def describe_objects(
    detector: DenseCap, dataset: Dataset, *, batch_size: int = BATCH, progress: Report = silent
) -> Described:
    """Describe every object of a data set with phrases, crowds aside, from its true box.

    Raises:
        ValueError: there is no object, or no phrases; or a picture cannot be read.
    """
    dataset = dataset.with_words(detector.words)
    vocabulary, said, wanted = Vocabulary(dataset.words), list[str](), list[str]()
    with in_eval_mode(detector), torch.no_grad():
        for start in range(0, len(dataset), batch_size):
            progress(f"{dataset.name}: true boxes", start, len(dataset))
            records = [dataset.records[i] for i in range(start, min(start + batch_size, len(dataset)))]
            targets = [record.targets[~record.targets.crowd] for record in records]
            pictures = [read_picture(record.path, record.size, checked=True) for record in records]
            boxes = [Proposals(target.boxes, torch.ones(len(target))) for target in targets]
            images = with_proposals(detector.preprocessing(pictures, detector.device), boxes)
            for phrases, target in zip(detector.describe(images), targets, strict=True):
                said += phrases
                wanted += vocabulary.decode(target.phrases)
    if not any(wanted):
        raise ValueError(f"{dataset.name} has no object with a phrase, so there is nothing to describe")
    references = [[each] for each in wanted]
    values, name = meteor(said, references)
    scores = {name: sum(values) / len(values)}
    if find_spec(PACKAGE):
        scores |= sentence_scores(said, references)
    return Described(said, wanted, scores)
