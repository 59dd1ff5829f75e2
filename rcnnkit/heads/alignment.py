"""Regions and words in one space, where a word is near the region that it speaks of.

The alignment model of Karpathy and Fei-Fei (arXiv:1412.2306, section 3.1).
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from rcnnkit.settings import Below1, Factor, Positive, Section
from rcnnkit.structures import LossSum
from rcnnkit.vocabulary import PADDING, Vocabulary, check_words


class AlignmentSettings(Section):
    """[alignment]: what tells which region each word of a sentence speaks of (arXiv:1412.2306, section 3.1), beside a
    trained detector, which stays as it is. `rcnnkit align` sets `enabled`."""

    enabled: bool = False
    """Train the alignment of words and regions in place of the detector, which `train.init` holds."""
    words: list[str] | None = None
    """The words that it knows, in the order of their numbers. Not given: those of the training data that are frequent
    enough."""
    minimum_count: Positive = 5
    """A word that is rarer in the training data is not learnt; 5 in the paper."""
    regions: Positive = 19
    """The most regions of a picture, those that score best, besides the whole picture; 19 in the paper."""
    space: Positive = 1000
    """Width of the space of regions and words; 1000 to 1600 in the paper."""
    embedding: Positive = 300
    """Width of the vectors that stand for words; 300 in the paper."""
    hidden: Positive = 600
    """Width of the bidirectional recurrent network; 300 to 600 in the paper."""
    dropout: Below1 = 0.0
    """Share of the inputs of each layer that training leaves out, but for the recurrent ones. The paper has some, and
    does not say how much. Words may lose their vectors with it."""
    margin: Factor = 1.0
    """By how much the score of a picture and a sentence of its own has to exceed those of other pairs; 1 in the
    paper."""

    @model_validator(mode="after")
    def _words_are_tokens(self) -> Self:
        check_words(self.words or ())
        return self


class Alignment(nn.Module):
    """Features of regions, and sentences → vectors whose products tell what goes together.

    Where this leaves the paper: features are centred and scaled by what they are on the training data, so that those of
    any detector do; vectors of words are learnt from scratch, and not taken from word2vec.

    Args:
        width: of the features of a region.
        settings: see `AlignmentSettings`.
    """

    feature_mean: Tensor  # (width,)
    feature_std: Tensor  # ()

    def __init__(self, width: int, settings: AlignmentSettings) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, Vocabulary(settings.words or ())
        hidden = settings.hidden
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(()))
        self.region_layer = nn.Linear(width, settings.space)  # W_m
        self.embed = nn.Embedding(len(self.vocabulary), settings.embedding, padding_idx=PADDING)  # W_w
        self.word_layer = nn.Linear(settings.embedding, hidden)  # W_e
        self.forwards, self.backwards = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)  # W_f and W_b
        self.last_layer = nn.Linear(hidden, settings.space)  # W_d
        self.dropout = nn.Dropout(settings.dropout)

    @torch.no_grad()
    def measure(self, features: Tensor) -> None:
        """From now on subtract the mean of these features (N, width), and divide by the one number that makes their
        mean variance 1. A factor for each of them would blow up those that hardly ever change."""
        variance, mean = torch.var_mean(features.float(), dim=0, correction=0)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(torch.where(variance.any(), variance.mean().sqrt(), 1.0))

    def regions(self, features: Tensor) -> Tensor:
        """(…, width) → (…, space) float32: the vectors of regions."""
        standard = (features.float() - self.feature_mean) / self.feature_std
        return self.region_layer(self.dropout(standard)).float()

    def words(self, sentences: Tensor) -> Tensor:
        """(N, L) numbers of words → (N, L, space) float32: the vector of each in its sentence, and 0 for padding."""
        real = (sentences != PADDING)[..., None]  # (N, L, 1)
        inputs = self.word_layer(self.dropout(self.embed(sentences))).relu()  # e_t
        before, after = (self._recur(inputs, real, *each) for each in ((self.forwards, False), (self.backwards, True)))
        return self.last_layer(self.dropout(before + after)).relu().float() * real

    def _recur(self, inputs: Tensor, real: Tensor, layer: nn.Linear, backwards: bool) -> Tensor:
        """(N, L, hidden): the states of one direction. Padding, which comes last, has none."""
        state, states = torch.zeros_like(inputs[:, :1].squeeze(1)), []
        places = range(inputs.shape[1])
        for place in reversed(places) if backwards else places:
            state = (inputs[:, place] + layer(state)).relu() * real[:, place]
            states.append(state)
        return torch.stack(states[::-1] if backwards else states, dim=1)

    def score(self, features: Tensor, sentences: Tensor) -> Tensor:
        """(K, N): how well each picture goes with each sentence: the sum over words of the product with the region that
        suits the word best (equation 8).

        Args:
            features: (K, R, width) of the pictures' regions; where one is there twice, nothing changes.
            sentences: (N, L), as `Vocabulary.encode` gives them, L of 1 or more.
        """
        return scores_of(self.regions(features), self.words(sentences))

    def loss_sum(self, features: Tensor, sentences: Tensor, pictures: Tensor) -> LossSum:
        """The ranking loss of pairs (equation 9): each picture should go best with its own sentence, and each sentence
        with its own picture. Another sentence of the same picture is neither right nor wrong.

        Args:
            features: (B, R, width) of the regions of each pair's picture.
            sentences: (B, L).
            pictures: (B,) numbers that tell which pairs are of one picture.
        """
        scores = self.score(features, sentences)
        own, negatives = scores.diagonal(), pictures[:, None] != pictures
        margin = self.settings.margin
        of_pictures = (scores - own[:, None] + margin).relu()
        of_sentences = (scores - own + margin).relu()
        return LossSum(((of_pictures + of_sentences) * negatives).sum(), len(pictures))


def scores_of(regions: Tensor, words: Tensor) -> Tensor:
    """(K, N) of the vectors of regions (K, R, space) and words (N, L, space); see `Alignment.score`."""
    products = torch.einsum("krd,nld->knlr", regions, words)
    return products.amax(dim=3).sum(dim=2)
