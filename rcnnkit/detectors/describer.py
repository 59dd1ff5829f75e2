"""What detectors that describe have in common: their words, and what they learn from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.heads.captioner import Captioner, RegionCaptioner
from rcnnkit.structures import ImageBatch, Targets


class Describer(Detector):
    """A detector whose detections have phrases."""

    captioner: RegionCaptioner

    @property
    def language(self) -> Captioner:
        return self.captioner.language

    @property
    def words(self) -> tuple[str, ...]:
        """What it can say, in the order of the numbers."""
        return self.language.vocabulary.words

    def describe(self, images: ImageBatch) -> list[tuple[str, ...]]:
        """The phrases of the regions that came with each image, such as true boxes; see `with_proposals`. The scores
        are the probabilities of being an object: 1 for true boxes."""
        raise NotImplementedError

    def check_batch(self, images: ImageBatch, targets: Sequence[Targets]) -> None:
        super().check_batch(images, targets)
        most = len(self.language.vocabulary)
        for i, target in enumerate(targets):
            phrases = target.phrases
            if len(target) and (phrases.ndim != 2 or not phrases.shape[1] or phrases.dtype != torch.int64):
                raise ValueError(
                    f"targets[{i}].phrases are {str(phrases.dtype).removeprefix('torch.')} of shape"
                    f" {tuple(phrases.shape)}, and must be int64 of shape (N, L); make them with"
                    " rcnnkit.vocabulary.Vocabulary(detector.words).encode(phrases)"
                )
            if phrases.numel() and not 0 <= int(phrases.min()) <= int(phrases.max()) < most:
                raise ValueError(
                    f"targets[{i}].phrases go from {int(phrases.min())} to {int(phrases.max())}, and this detector's"
                    f" words from 0 to {most - 1}; encode the phrases with Vocabulary(detector.words)"
                )
