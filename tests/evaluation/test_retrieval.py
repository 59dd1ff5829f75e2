"""Ranks both ways."""

import numpy as np
import pytest
import torch

from rcnnkit.evaluation.retrieval import retrieval


def test_ranks_by_definition() -> None:
    rng = np.random.default_rng(0)
    scores, owners = rng.normal(size=(5, 9)), np.array([0, 0, 1, 1, 1, 2, 3, 3, 3])  # the last picture has none
    result = retrieval(torch.from_numpy(scores), torch.from_numpy(owners), "test")
    of_sentences = [1 + sum(scores[p, s] > scores[owner, s] for p in range(5)) for s, owner in enumerate(owners)]
    assert list(result.picture_ranks) == of_sentences
    of_pictures = []
    for picture in range(4):
        best = max(scores[picture, owners == picture])
        of_pictures.append(1 + sum(scores[picture, owners != picture] > best))
    assert list(result.sentence_ranks) == of_pictures
    numbers = result.numbers
    assert numbers["R1_pictures"] == np.mean(np.array(of_sentences) <= 1)
    assert numbers["R5_sentences"] == np.mean(np.array(of_pictures) <= 5)
    assert numbers["R10_sentences"] == 1
    assert numbers["median_sentences"] == np.median(of_pictures)
    assert numbers["R5"] == (numbers["R5_sentences"] + numbers["R5_pictures"]) / 2
    assert result.headline[0] == "R5"
    assert result.to_json() == {"dataset": "test", "pictures": 5, "sentences": 9, **numbers}


def test_a_dead_network_finds_nothing() -> None:
    result = retrieval(torch.zeros(60, 60), torch.arange(60), "test", silent=1.0)
    assert set(result.sentence_ranks) == set(result.picture_ranks) == {60}
    assert result.numbers["R10_pictures"] == 0
    assert result.numbers["silent_words"] == 1


def test_a_perfect_one_finds_all() -> None:
    result = retrieval(torch.eye(7), torch.arange(7), "test")
    assert set(result.sentence_ranks) == set(result.picture_ranks) == {1}
    assert result.numbers["R5"] == 1


def test_the_same_sentence_of_two_pictures_is_a_tie() -> None:
    scores = torch.tensor([[2.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    result = retrieval(scores, torch.arange(3), "test")
    assert list(result.sentence_ranks) == [2, 2, 1]
    assert list(result.picture_ranks) == [1, 2, 1]


def test_what_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="test has no sentences; there is nothing to evaluate"):
        retrieval(torch.zeros(3, 0), torch.zeros(0, dtype=torch.int64), "test")
    with pytest.raises(ValueError, match="a score is not a number; such a run cannot be evaluated"):
        retrieval(torch.tensor([[float("nan")]]), torch.zeros(1, dtype=torch.int64), "test")
