"""Phrases of regions: an LSTM that says what a feature vector is of (DenseCap, arXiv:1511.07571, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from rcnnkit.heads.neighbours import Neighbours
from rcnnkit.settings import NotNegative, Positive, Section
from rcnnkit.structures import LossSum, Proposals
from rcnnkit.vocabulary import END, PADDING, START, UNKNOWN, Vocabulary, check_words

NEVER_SAID = (PADDING, START, UNKNOWN)


class CaptionSettings(Section):
    """[captions]: what describes the regions of a DenseCap (arXiv:1511.07571), or the pictures of a captioner."""

    words: list[str] | None = None
    """The words that it can say, in the order of their numbers. Not given: those of the training data that are frequent
    enough."""
    minimum_count: Positive = 5
    """A word that is rarer in the training data is not learnt. DenseCap has 15, for Visual Genome."""
    max_words: Positive = 15
    """The most words of a phrase. An object with a longer one is learnt as an object, without its phrase."""
    hidden: Positive = 512
    """Width of the LSTM."""
    embedding: Positive = 512
    """Width of the vectors that stand for words, and for the region."""
    neighbours: bool = False
    """Whether a region also sees the other regions of its picture, to speak of them: "left of a cup". The paper has no
    such input."""
    loss_weight: NotNegative = 1.0
    """What the loss of the words is multiplied by."""
    beam: Positive = 1
    """How many beginnings of a phrase are followed at a time. 1: the likeliest word each time, as in the paper."""

    @model_validator(mode="after")
    def _words_are_tokens(self) -> Self:
        check_words(self.words or ())
        return self


class Captioner(nn.Module):
    """Features → phrases. The LSTM sees the feature as token −1, then START and the words; what it says before START is
    not looked at.

    Where this leaves the paper: the feature is also added to START and to each word, because a short training does not
    carry it from token −1 to the last words. END is another number than PADDING, the mean over words counts real ones
    alone, and the unknown word is learnt but never said.

    Args:
        width: of the features.
        settings: see `CaptionSettings`.
    """

    def __init__(self, width: int, settings: CaptionSettings) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, Vocabulary(settings.words or ())
        self.see = nn.Linear(width, settings.embedding)
        self.embed = nn.Embedding(len(self.vocabulary), settings.embedding)
        self.lstm = nn.LSTM(settings.embedding, settings.hidden, batch_first=True)
        self.score_layer = nn.Linear(settings.hidden, len(self.vocabulary))
        nn.init.normal_(self.embed.weight, std=0.1)  # about as large as what is seen, not ten times as large
        # Forget gates start open, as in the released code. With 0, each word halves what is left of the feature.
        _, _, bias, _ = self.lstm.all_weights[0]
        nn.init.ones_(bias.detach().chunk(4)[1])

    def forward(self, features: Tensor, phrases: Tensor) -> Tensor:
        """Logits (R, L + 1, V) of each next word after START and after each of L words.

        Args:
            features: (R, width) float32.
            phrases: (R, L), as `Vocabulary.encode` gives them.
        """
        begun = F.pad(phrases, (1, 0), value=START)
        seen = self.see(features).relu()[:, None]
        said, _ = self.lstm(torch.cat([seen, seen + self.embed(begun)], dim=1))
        return self.score_layer(said[:, 1:])

    def loss_sum(self, features: Tensor, phrases: Tensor) -> LossSum:
        """The log loss of every word and of END, times `loss_weight`; a phrase without any word, or with too many, is
        not learnt from."""
        lengths = phrases.ne(PADDING).sum(dim=1)
        told = (lengths > 0) & (lengths <= self.settings.max_words)
        phrases = phrases[:, : self.settings.max_words]
        features, phrases = features[told], phrases[told]
        if not len(phrases):  # a zero with a gradient
            return LossSum(self.score_layer.bias.sum() * 0 + self.see.bias.sum() * 0, 0)
        goals = F.pad(phrases, (0, 1), value=PADDING)
        goals = goals.scatter(1, lengths[told][:, None], END)
        logits = self(features, phrases).float()
        total = F.cross_entropy(logits.flatten(0, 1), goals.flatten(), ignore_index=PADDING, reduction="sum")
        return LossSum(self.settings.loss_weight * total, goals.ne(PADDING).sum())

    def say(self, features: Tensor) -> list[str]:
        """The likeliest phrase of each of (R, width) features."""
        return self.vocabulary.decode(self.describe(features))

    @torch.no_grad()
    def describe(self, features: Tensor, beam: int | None = None) -> Tensor:
        """(R, max_words) numbers of the likeliest phrases, at least one word each, then PADDING.

        A beam's phrases are compared by the sums of their words' log probabilities, not divided by their lengths.

        Args:
            features: (R, width) float32.
            beam: how many beginnings of each phrase are followed; that of the settings by default.
        """
        beam, longest, rows = beam or self.settings.beam, self.settings.max_words, len(features)
        said = features.new_full((rows, beam, longest), PADDING, dtype=torch.int64)
        if not rows or not self.vocabulary.words:
            return said[:, 0]
        seen = self.see(features).relu()[:, None]
        _, state = self.lstm(seen)
        seen = seen.repeat_interleave(beam, dim=0)
        state = tuple(part.repeat_interleave(beam, dim=1) for part in state)
        total = features.new_full((rows, beam), -math.inf)
        total[:, 0] = 0  # all beginnings are the same so far
        last = torch.full_like(said[:, :, 0], START)
        first_row = torch.arange(rows, device=said.device)[:, None] * beam
        for place in range(longest):
            out, state = self.lstm(seen + self.embed(last.flatten())[:, None], state)
            scores = self.score_layer(out[:, 0]).float().log_softmax(dim=1).unflatten(0, (rows, beam))
            ended = (last == END) | (last == PADDING)
            scores[:, :, list(NEVER_SAID)] = -math.inf
            if not place:
                scores[:, :, END] = -math.inf
            scores = scores.masked_fill(ended[..., None], -math.inf)
            scores[:, :, PADDING] = torch.where(ended, 0.0, scores[:, :, PADDING])
            total, chosen = (total[..., None] + scores).flatten(1).topk(beam)
            origin, last = chosen // len(self.vocabulary), chosen % len(self.vocabulary)
            said = said.take_along_dim(origin[..., None], dim=1)
            said[:, :, place] = last
            state = tuple(part[:, (first_row + origin).flatten()] for part in state)
            if ((last == END) | (last == PADDING)).all():
                break
        best = said[:, 0]
        return best.masked_fill(best == END, PADDING)


class RegionCaptioner(nn.Module):
    """A captioner of pooled regions.

    Where this leaves the paper: it sees more than fc7, and each part of what it sees is normalised (LayerNorm). Parts
    that differ in size several times would hide each other.

    Args:
        width: of fc7.
        channels: of a pooled region.
        settings: see `CaptionSettings`.
    """

    def __init__(self, width: int, channels: int, settings: CaptionSettings) -> None:
        super().__init__()
        widths = [width, channels]
        self.norms = nn.ModuleList(nn.LayerNorm(each) for each in widths)
        self.neighbours: Neighbours | None = None
        if settings.neighbours:
            self.neighbours = Neighbours(sum(widths), settings.hidden)
            widths.append(settings.hidden)
            self.norms.append(nn.LayerNorm(settings.hidden))
        self.language = Captioner(sum(widths), settings)

    def join(self, fc7: Tensor, regions: Tensor, proposals: Sequence[Proposals] = ()) -> Tensor:
        """(R, width) float32: what the language is made of.

        Args:
            fc7: (R, D), what the head makes of the regions.
            regions: (R, C, s, s), as they were pooled; their mean keeps colours, which fc7 forgets.
            proposals: of each picture, R in all; looked at with `captions.neighbours`.
        """
        parts = [fc7.float(), regions.float().mean(dim=(2, 3))]
        parts = [norm(part) for norm, part in zip(self.norms, parts, strict=False)]
        if self.neighbours is not None:
            seen = self.neighbours(torch.cat(parts, dim=1), proposals)
            parts.append(self.norms[len(parts)](seen))
        return torch.cat(parts, dim=1)
