"""The average precision of boxes with phrases."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit.data.records import Dataset, Record
from rcnnkit.evaluation.dense_captions import METEORS, OVERLAPS, dense_captions, merged
from rcnnkit.structures import Detections, Targets
from rcnnkit.vocabulary import Vocabulary

WORDS = ["red", "cup", "blue", "pan", "of", "tea"]
ENCODE = Vocabulary(WORDS).encode


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR of equal words, whether Java is there or not."""
    monkeypatch.setattr("rcnnkit.evaluation.sentences.shutil.which", lambda name: None)


def data(*pictures: list[tuple[list[float], str]]) -> Dataset:
    records = [
        Record(
            i,
            Path(f"{i}.jpg"),
            (100, 100),
            Targets(
                torch.tensor([box for box, _ in objects]).reshape(-1, 4).float(),
                torch.zeros(len(objects), dtype=torch.int64),
                phrases=ENCODE([phrase for _, phrase in objects]),
            ),
        )
        for i, objects in enumerate(pictures)
    ]
    return Dataset("made", records, ["region"], [1], WORDS)


def found(*each: tuple[list[float], float, str]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in each]).reshape(-1, 4).float()
    scores = torch.tensor([score for _, score, _ in each])
    labels = torch.zeros(len(each), dtype=torch.int64)
    return Detections(boxes, scores, labels, ["region"], phrases=tuple(phrase for _, _, phrase in each))


A, B = [0.0, 0, 20, 20], [50.0, 50, 80, 80]


def test_all_right() -> None:
    result = dense_captions([found((A, 0.9, "red cup"), (B, 0.4, "blue pan"))], data([(A, "red cup"), (B, "blue pan")]))
    assert result.ap.shape == (len(OVERLAPS), len(METEORS)) == (5, 6)
    assert (result.ap == 1).all()
    assert result.numbers == {"dense_AP": 1, "regions_AP": 1}
    assert result.objects == 2


def test_thresholds_of_boxes_and_phrases() -> None:
    """An IoU of 0.5 passes the first three thresholds; a METEOR of 0.25 · … passes those below it."""
    half = [0.0, 0, 10, 20]
    result = dense_captions([found((half, 0.9, "red"))], data([(A, "red cup blue pan")]))
    # One of four words: P = 1, R = 1/4, F = 0.25 / (0.85 + 0.0375), and 0.4 of it.
    score = 0.25 / 0.8875 * 0.4  # 0.1127
    wanted = [[float(o <= 0.5 and score > m) for m in METEORS] for o in OVERLAPS]
    assert result.ap.tolist() == wanted
    assert result.boxes_ap.tolist() == [1, 1, 1, 0, 0]
    nothing_said = dense_captions([found((A, 0.9, "tea"))], data([(A, "red cup")]))
    assert (nothing_said.ap.sum(), nothing_said.boxes_ap.sum()) == (0, 5)  # more than 0 is wanted


def test_the_first_that_prefers_an_object_takes_it() -> None:
    """However little it overlaps, and whatever it says: the good one after it is wrong."""
    sliver = [15.0, 15, 40, 40]
    result = dense_captions([found((sliver, 0.9, "tea"), (A, 0.8, "red cup"))], data([(A, "red cup")]))
    assert result.numbers == {"dense_AP": 0, "regions_AP": 0}
    later = dense_captions([found((sliver, 0.7, "tea"), (A, 0.8, "red cup"))], data([(A, "red cup")]))
    assert later.numbers == {"dense_AP": 1, "regions_AP": 1}
    nowhere = dense_captions([found((B, 0.9, "tea"), (A, 0.8, "red cup"))], data([(A, "red cup")]))
    assert nowhere.numbers["dense_AP"] == pytest.approx(0.5)


def test_detections_of_all_pictures_are_ranked_together() -> None:
    """Right, wrong, right: precision 1 up to half of the recall, 2/3 beyond."""
    result = dense_captions(
        [found((A, 0.9, "red cup"), (B, 0.8, "tea")), found((A, 0.7, "red cup"))],
        data([(A, "red cup")], [(A, "red cup")]),
    )
    assert result.numbers["dense_AP"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_objects_that_overlap_are_one() -> None:
    boxes = [[0.0, 0, 20, 20], [0.0, 0, 20, 18], [0.0, 0, 18, 20], [50.0, 50, 80, 80]]
    one = data([(box, phrase) for box, phrase in zip(boxes, ("red cup", "blue cup", "tea", "pan"), strict=True)])
    merged_boxes, phrases = merged(one.records[0].targets, Vocabulary(WORDS))
    torch.testing.assert_close(merged_boxes, torch.tensor([[0, 0, 58 / 3, 58 / 3], [50, 50, 80, 80]]))
    assert phrases == [["red cup", "blue cup", "tea"], ["pan"]]
    result = dense_captions([found((A, 0.9, "tea"), (B, 0.5, "pan"))], one)
    assert (result.numbers["dense_AP"], result.objects) == (1, 2)  # the best of three references counts
    # The largest group comes first: the middle one of three in a row takes both others.
    row = [[0.0, 0, 100, 10], [15.0, 0, 115, 10], [30.0, 0, 130, 10]]
    boxes_of_row, _ = merged(data([(box, "tea") for box in row]).records[0].targets, Vocabulary(WORDS))
    assert boxes_of_row.tolist() == [[15, 0, 115, 10]]


def test_nothing() -> None:
    assert dense_captions([found()], data([(A, "tea")])).numbers == {"dense_AP": 0, "regions_AP": 0}
    empty = dense_captions([found((A, 0.5, "tea"))], data([]))
    assert all(map(math.isnan, empty.numbers.values()))
    assert empty.to_json()["dense_AP"] is None
    assert np.isnan(empty.ap).all()
