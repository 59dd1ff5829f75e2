"""How well pictures and sentences find each other: recall among the first, and the median rank."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FIRST = (1, 5, 10)


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """The ranks of what belongs together, 1 for the first place."""

    dataset: str  # its name
    sentence_ranks: Sequence[int]  # of each picture with sentences, that of its best sentence among all sentences
    picture_ranks: Sequence[int]  # of each sentence, that of its picture among all pictures
    pictures: int
    silent: float  # share of the words whose vector is 0, which go with everything alike

    @property
    def numbers(self) -> dict[str, float]:
        """R5 is the mean of both ways. All but the medians are shares."""
        numbers: dict[str, float] = {}
        for name, ranks in (("sentences", self.sentence_ranks), ("pictures", self.picture_ranks)):
            numbers |= {f"R{k}_{name}": sum(rank <= k for rank in ranks) / len(ranks) for k in FIRST}
            numbers[f"median_{name}"] = float(statistics.median(ranks))
        mean = (numbers["R5_sentences"] + numbers["R5_pictures"]) / 2
        return {"R5": mean, **numbers, "silent_words": self.silent}

    @property
    def headline(self) -> tuple[str, str, str]:
        """Those of `numbers` that are printed; the first chooses the best weights."""
        return ("R5", "R5_sentences", "R5_pictures")

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        counts = {"pictures": self.pictures, "sentences": len(self.picture_ranks)}
        return {"dataset": self.dataset, **counts, **self.numbers}


def retrieval(scores: Tensor, owners: Tensor, dataset: str, silent: float = 0.0) -> Retrieval:
    """The ranks both ways. What scores the same as the right one goes before it: a network that gives all pairs one
    score finds nothing.

    Args:
        scores: (P, S) of each picture with each sentence, higher is better.
        owners: (S,) the picture of each sentence; a picture may have several, or none.
        dataset: its name, for people.
        silent: see `Retrieval`.

    Raises:
        ValueError: there is no sentence, or a score is not a number.
    """
    if not len(owners):
        raise ValueError(f"{dataset} has no sentences; there is nothing to evaluate")
    if scores.isnan().any():
        raise ValueError("a score is not a number; such a run cannot be evaluated")
    own = scores[owners, torch.arange(len(owners))]  # (S,)
    picture_ranks = (scores >= own).sum(dim=0)  # the right one counts itself
    right = owners == torch.arange(len(scores))[:, None]  # (P, S)
    best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    sentence_ranks = 1 + ((scores >= best) & ~right).sum(dim=1)  # other sentences of the picture are right, too
    described = right.any(dim=1)
    return Retrieval(dataset, sentence_ranks[described].tolist(), picture_ranks.tolist(), len(scores), silent)
