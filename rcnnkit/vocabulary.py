"""Phrases as numbers, and back.

Tokens as in DenseCap's code: lower case, ASCII punctuation deleted, cut at white space.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

PADDING, START, END, UNKNOWN = range(4)
FIRST = 4  # the number of the first word
UNKNOWN_WORD = "<unk>"
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokens(phrase: str) -> list[str]:
    """The words of a phrase."""
    return unicodedata.normalize("NFC", phrase).lower().translate(NO_PUNCTUATION).split()


def check_words(words: Sequence[str]) -> None:
    """Raise ValueError where `words`, a setting, has one twice, or one that is not as `tokens` gives it."""
    if len(set(words)) < len(words):
        raise ValueError(f"words holds {next(w for w in words if words.count(w) > 1)!r} twice; leave one out")
    if wrong := [word for word in words if tokens(word) != [word]]:
        raise ValueError(
            f"words holds {wrong[0]!r}; each is one word in lower case, without punctuation: {tokens(wrong[0])}"
        )


class Vocabulary:
    """Words and their numbers, from `FIRST` on.

    Args:
        words: in the order of their numbers, each once.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: FIRST + i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        """How many numbers there are, with the four that are no words."""
        return FIRST + len(self.words)

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Of each word its number, or UNKNOWN."""
        return [self._numbers.get(word, UNKNOWN) for word in words]

    def encode(self, phrases: Sequence[str], length: int = 0) -> Tensor:
        """(N, L) int64: the numbers of each phrase's words, then PADDING; L is that of the longest, or `length`."""
        rows = [self.numbers(tokens(phrase)) for phrase in phrases]
        length = max(length, *map(len, rows)) if rows else length
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows]).reshape(len(rows), length).long()

    def decode(self, phrases: Tensor) -> list[str]:
        """The phrases of (N, L) numbers, each up to its first END or PADDING."""
        decoded = []
        for row in phrases.tolist():
            end = next((i for i, number in enumerate(row) if number in (PADDING, END)), len(row))
            decoded.append(" ".join(self.words[n - FIRST] if n >= FIRST else UNKNOWN_WORD for n in row[:end]))
        return decoded
