"""Accuracy, beside scikit-learn's."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score
from torch import Tensor, nn

from rcnnkit.backbones.classifier import Classifier, ClassifierSettings
from rcnnkit.data.class_folders import ClassFolders, Example
from rcnnkit.evaluation.accuracy import accuracy, accuracy_of, evaluate_classifier, score
from rcnnkit.images import Preprocessing
from rcnnkit.training.ranks import in_turn

NAMES = [f"class {i}" for i in range(8)]


def test_as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 300)  # nothing of the last class
    scores = rng.normal(size=(300, 8)) + 1.5 * np.eye(8)[labels]
    found = accuracy(torch.from_numpy(scores), torch.from_numpy(labels), NAMES, "data")
    called = scores.argmax(axis=1)
    assert 0.3 < found.top1 < found.top5 < 1
    assert found.top1 == pytest.approx(accuracy_score(labels, called), abs=1e-12)
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=range(8)), abs=1e-12)
    recalls = recall_score(labels, called, labels=range(7), average=None)
    assert [c.top1 for c in found.classes[:7]] == pytest.approx(list(recalls), abs=1e-12)
    assert found.numbers["class_mean"] == pytest.approx(recalls.mean(), abs=1e-12)
    assert math.isnan(found.classes[7].top1)
    assert [c.pictures for c in found.classes] == np.bincount(labels, minlength=8).tolist()
    assert found.to_json()["classes"][7] == {"name": "class 7", "pictures": 0, "top1": None}


def test_ties_and_few_classes_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [-math.inf, 2.0, 1.0]])
    found = accuracy(scores, torch.tensor([0, 1, 1]), ["a", "b", "c"], "data")
    assert found.top1 == pytest.approx(2 / 3)  # of equal scores the first class's goes first
    assert math.isnan(found.top5)  # of three classes the best five are all
    assert [c.top1 for c in found.classes[:2]] == [1.0, 0.5]
    many = accuracy(torch.zeros(8, 8), torch.arange(8), NAMES, "data")
    assert (many.top1, many.top5) == (1 / 8, 5 / 8)


def test_nothing_and_nan_are_errors() -> None:
    with pytest.raises(ValueError, match="data has no pictures"):
        accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ["a", "b", "c"], "data")
    with pytest.raises(ValueError, match="not a number"):
        accuracy(torch.tensor([[0.0, math.nan]]), torch.tensor([0]), ["a", "b"], "data")


class MeanColour(nn.Module):
    """A network whose fc7 is the mean of each channel."""

    widths = {"fc7": 3}  # noqa: RUF012  # as the network's

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"fc7": pixels.mean(dim=(2, 3))}


def test_a_classifier_over_pictures(tmp_path: Path) -> None:
    """The brightest channel is the class; one picture lies in a wrong folder."""
    records = []
    for i, (colour, label) in enumerate([((9, 0, 0), 0), ((0, 9, 0), 1), ((0, 0, 9), 2), ((0, 9, 1), 2)]):
        Image.new("RGB", (30 + i, 20), colour).save(tmp_path / f"{i}.png")
        records.append(Example(tmp_path / f"{i}.png", label))
    data = ClassFolders("colours", records, ["red", "green", "blue"])
    classifier = Classifier(
        MeanColour(),  # type: ignore[arg-type]  # it has only what is called
        data.class_names,
        [1, 2, 3],
        Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)),
        ClassifierSettings(resize=18, crop=16),
    )
    with torch.no_grad():
        classifier.score_layer.weight.copy_(torch.eye(3))
    classifier.train()
    found = evaluate_classifier(classifier, data, batch_size=3, precision="float32")
    parts = [score(classifier, data, batch_size=1, turns=slice(i, None, 3)) for i in range(3)]
    assert list(map(len, parts)) == [2, 1, 1]
    assert accuracy_of(in_turn(parts), data).to_json() == found.to_json()
    assert classifier.training  # as before
    assert found.pictures == 4
    assert [c.top1 for c in found.classes] == [1.0, 1.0, 0.5]
    assert found.numbers["class_mean"] == pytest.approx(2.5 / 3)
    with pytest.raises(ValueError, match="the classifier knows red, green, blue"):
        evaluate_classifier(
            classifier, ClassFolders("colours", records, ["blue", "green", "red"]), batch_size=3, precision="float32"
        )
