"""A trained detector, and what tells which of its regions each word of a sentence speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import torch
from torch import Tensor

from rcnnkit.defaults import BETA
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.heads.alignment import Alignment, scores_of
from rcnnkit.heads.chain import best_chain
from rcnnkit.images import Picture, read_picture
from rcnnkit.model import Model
from rcnnkit.ops import nms
from rcnnkit.structures import Detections, Proposals
from rcnnkit.vocabulary import UNKNOWN, tokens

LONGEST = 50  # words of a sentence
OVERLAP = 0.5  # of two regions, whatever their classes; of those with more, one is enough


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The regions of a picture: all of it first, then what was detected, the best first."""

    boxes: Tensor  # (R, 4) float32 xyxy, pixels of the picture as it was given
    features: Tensor  # (R, width) float32

    def filled(self, count: int) -> Tensor:
        """(1 + count, width): the features, and that of the whole picture again where there are fewer regions."""
        return torch.cat([self.features, self.features[:1].expand(1 + count - len(self.features), -1)])


@dataclass(frozen=True, slots=True, eq=False)
class Grounding:
    """Which region of a picture each word of a sentence speaks of."""

    words: tuple[str, ...]  # T of them
    boxes: Tensor  # (R, 4) float32 xyxy, pixels of the picture as it was given; the first is all of it
    regions: Tensor  # (T,) int64 in [0, R)
    scores: Tensor  # (T,) float32: how well each word goes with its region
    score: float  # of the picture and the sentence

    @property
    def snippets(self) -> list[tuple[int, str]]:
        """Neighbouring words that speak of one region, as (region, "large red seven"), in the order of the sentence."""
        pairs = zip(self.regions.tolist(), self.words, strict=True)
        return [(region, " ".join(word for _, word in some)) for region, some in groupby(pairs, lambda pair: pair[0])]

    def detections(self) -> Detections:
        """The regions that words speak of, without the whole picture, to be drawn: a box, its snippets and the mean
        score of their words each."""
        by_region: dict[int, list[str]] = {}
        for region, snippet in self.snippets:
            by_region.setdefault(region, []).append(snippet)
        by_region.pop(0, None)
        scores = [self.scores[self.regions == region].mean() for region in by_region]
        labels = torch.zeros(len(by_region), dtype=torch.int64)
        phrases = tuple(" … ".join(snippets) for snippets in by_region.values())
        return Detections(
            self.boxes[list(by_region)], torch.tensor(scores).reshape(-1), labels, ("region",), (1,), phrases
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: each word with its score, the number of its region and its box."""
        boxes = [[round(side, 2) for side in box] for box in self.boxes.tolist()]
        words = zip(self.words, self.regions.tolist(), self.scores.tolist(), strict=True)
        return {
            "score": round(self.score, 4),
            "words": [
                {"word": word, "score": round(score, 4), "region": region, "box": boxes[region]}
                for word, region, score in words
            ],
            "boxes": boxes,
        }


class Aligner(Model):
    """Words and regions (Karpathy and Fei-Fei 2015, arXiv:1412.2306v2, section 3.1) on any detector, which stays as it
    is.

    Where this leaves the paper: regions are any detector's, and their features are beside fc7 the mean of the pooled
    map; a detection that overlaps a better one is left out, whatever its class.

    Args:
        detector: trained; its regions are looked at.
        alignment: features of regions, and sentences → what goes together.
    """

    kind = "aligner"
    half_precision = (
        'to look at pictures in half precision, call rcnnkit.weights.load_aligner(file, precision="bf16" or "fp16")'
    )

    def __init__(self, detector: Detector, alignment: Alignment) -> None:
        super().__init__()
        self.detector, self.alignment = detector.requires_grad_(False).eval(), alignment
        self.preprocessing = detector.preprocessing
        self.class_names, self.category_ids = detector.class_names, detector.category_ids

    @property
    def words(self) -> tuple[str, ...]:
        """What it knows, in the order of the numbers."""
        return self.alignment.vocabulary.words

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.detector.eval()
        return self

    @torch.no_grad()
    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """The regions of each picture. Raises what the detector raises for pictures that it cannot look at."""
        arrays = [read_picture(picture) for picture in pictures]
        chosen = [
            self._choose(detections, array.shape[:2])
            for detections, array in zip(self.detector(arrays), arrays, strict=True)
        ]
        features: list[Tensor] = []
        for images in self.detector.batches(arrays):
            some = chosen[len(features) :][: len(images)]
            seen = self.detector.region_features(with_proposals(images, some))
            features += seen.float().split([len(proposals) for proposals in some])
        return [Seen(proposals.boxes, parts) for proposals, parts in zip(chosen, features, strict=True)]

    def _choose(self, detections: Detections, size: tuple[int, ...]) -> Proposals:
        """The regions of a picture (height, width), in its own pixels."""
        best = nms(detections.boxes, detections.scores, OVERLAP)[: self.alignment.settings.regions]
        whole = detections.boxes.new_tensor([[0, 0, size[1], size[0]]])
        return Proposals(
            torch.cat([whole, detections.boxes[best]]), torch.cat([whole[:, 0] + 1, detections.scores[best]])
        )

    def encode(self, sentence: str) -> Tensor:
        """(1, L) numbers of a sentence's words.

        Raises:
            ValueError: it has no word, more than `LONGEST`, or none that was learnt.
        """
        words = tokens(sentence)
        if not words:
            raise ValueError(f"the sentence {sentence!r} has no word; write what is to be found")
        if len(words) > LONGEST:
            raise ValueError(f"the sentence has {len(words)} words, more than {LONGEST}; shorten it")
        numbers = self.alignment.vocabulary.encode([sentence]).to(self.device)
        if (numbers == UNKNOWN).all():
            examples = ", ".join(self.words[:10])
            raise ValueError(
                f"no word of the sentence {sentence!r} was in the sentences that this aligner learnt from; it knows"
                f" {len(self.words)} words, such as {examples}"
            )
        return numbers

    def unknown(self, sentence: str) -> list[str]:
        """The words of a sentence that were not learnt, each once. They are aligned by the words around them. Raises as
        `encode`."""
        self.encode(sentence)
        return [word for word in dict.fromkeys(tokens(sentence)) if word not in self.words]

    @torch.no_grad()
    def ground(self, picture: Picture, sentence: str, *, beta: float = BETA) -> Grounding:
        """Which region of a picture each word of a sentence speaks of.

        Args:
            beta: how much neighbouring words like to speak of one region (equation 11). 0: each word for itself.

        Raises:
            ValueError: as `encode`; `beta` is negative; and what `read_picture` raises.
        """
        if not beta >= 0:
            raise ValueError(f"beta = {beta:g}; give 0 or more")
        numbers = self.encode(sentence)
        (picture_regions,) = self.see([picture])
        regions, (words,) = self.alignment.regions(picture_regions.features), self.alignment.words(numbers)
        products = words @ regions.T  # (T, R)
        chain = best_chain(products, beta)
        scores = products.gather(1, chain[:, None])[:, 0]
        total = float(products.amax(dim=1).sum())
        return Grounding(tuple(tokens(sentence)), picture_regions.boxes.cpu(), chain.cpu(), scores.cpu(), total)

    @torch.no_grad()
    def score(self, pictures: Sequence[Picture], sentence: str) -> list[float]:
        """How well each picture goes with a sentence (equation 8): higher is better, without bounds. Raises as
        `ground`."""
        words = self.alignment.words(self.encode(sentence))
        regions = [self.alignment.regions(seen.features) for seen in self.see(pictures)]
        return [float(scores_of(each[None], words)) for each in regions]
