"""Words as numbers, and back."""

import torch

from rcnnkit.vocabulary import END, FIRST, PADDING, START, UNKNOWN, Vocabulary, tokens


def test_tokens() -> None:
    assert tokens("The clock, is GREEN.") == ["the", "clock", "is", "green"]
    assert tokens("man's well-worn\tcoat") == ["mans", "wellworn", "coat"]  # as DenseCap's code cuts them
    assert tokens("Ein Za\u0308hler") == ["ein", "z\u00e4hler"]  # composed
    assert tokens(" \n") == tokens("?!") == []


def test_phrases_come_back() -> None:
    vocabulary = Vocabulary(["red", "seven"])
    assert len({PADDING, START, END, UNKNOWN, *range(FIRST, FIRST + 2)}) == len(vocabulary) == 6
    numbers = vocabulary.encode(["Red seven!", "a red", ""])
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [[4, 5], [UNKNOWN, 4], [PADDING, PADDING]]
    assert vocabulary.decode(numbers) == ["red seven", "<unk> red", ""]
    assert vocabulary.decode(torch.tensor([[5, END, 4]])) == ["seven"]
    assert vocabulary.encode(["red"], 4).tolist() == [[4, 0, 0, 0]]
    assert vocabulary.encode([]).shape == (0, 0)
    assert vocabulary.encode([], 3).shape == (0, 3)
