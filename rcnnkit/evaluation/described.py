"""What a detector says of objects whose true boxes it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from rcnnkit.data.records import Dataset
from rcnnkit.defaults import BATCH
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import with_proposals
from rcnnkit.evaluation.report import in_eval_mode
from rcnnkit.evaluation.sentences import PACKAGE, meteor, sentence_scores
from rcnnkit.images import read_picture
from rcnnkit.progress import Report, silent
from rcnnkit.structures import Proposals, Targets
from rcnnkit.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Described:
    """The phrase of each object of a data set, and those that it is annotated with."""

    said: list[str]
    wanted: list[list[str]]  # several where objects have one and the same box, such as the sentences of a picture
    scores: Mapping[str, float]  # METEOR's mean under its name, and BLEU, ROUGE-L and CIDEr-D where they are installed

    @property
    def whole(self) -> float:
        """The share of phrases of which every word is right. METEOR does not see relations that are swapped."""
        return sum(said in wanted for said, wanted in zip(self.said, self.wanted, strict=True)) / len(self.said)

    def to_json(self) -> dict[str, Any]:
        return {"whole_phrases": self.whole, **self.scores}


def describe_objects(
    detector: Describer, dataset: Dataset, *, batch_size: int = BATCH, progress: Report = silent
) -> Described:
    """Describe every object of a data set with phrases, crowds aside, from its true box.

    Raises:
        ValueError: there is no object, or no phrases; or a picture cannot be read.
    """
    dataset = dataset.with_words(detector.words)
    vocabulary, candidates, references = Vocabulary(dataset.words), list[str](), list[list[str]]()
    with in_eval_mode(detector), torch.no_grad():
        for start in range(0, len(dataset), batch_size):
            progress(f"{dataset.name}: true boxes", start, len(dataset))
            records = [dataset.records[i] for i in range(start, min(start + batch_size, len(dataset)))]
            objects = [_objects(record.targets[~record.targets.crowd], vocabulary) for record in records]
            pictures = [read_picture(record.path, record.size, checked=True) for record in records]
            boxes = [Proposals(each, torch.ones(len(each))) for each, _ in objects]
            images = with_proposals(detector.preprocessing(pictures, detector.device), boxes)
            for phrases, (_, object_references) in zip(detector.describe(images), objects, strict=True):
                candidates += phrases
                references += object_references
    if not any(phrase for object_references in references for phrase in object_references):
        raise ValueError(f"{dataset.name} has no object with a phrase, so there is nothing to describe")
    values, name = meteor(candidates, references)
    scores = {name: sum(values) / len(values)}
    if find_spec(PACKAGE):
        scores |= sentence_scores(candidates, references)
    return Described(candidates, references, scores)


def _objects(targets: Targets, vocabulary: Vocabulary) -> tuple[Tensor, list[list[str]]]:
    """(M, 4) different boxes, in the order of their first objects, and the phrases of each."""
    phrases: dict[tuple[float, ...], list[str]] = {}
    for box, phrase in zip(targets.boxes.tolist(), vocabulary.decode(targets.phrases), strict=True):
        phrases.setdefault(tuple(box), []).append(phrase)
    return torch.tensor(list(phrases)).reshape(-1, 4), list(phrases.values())
