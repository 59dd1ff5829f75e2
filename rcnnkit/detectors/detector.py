"""What every detector does for its caller: pictures in, detections out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcnnkit.images import Picture, Preprocessing
from rcnnkit.structures import Detections, ImageBatch, Targets


class Detector(nn.Module):
    """Three methods: `losses` to train with, `detect` for a batch, and the call for pictures of any kind."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Named losses to add up; each detector says which, beside its paper."""
        raise NotImplementedError

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is in each image, in the pixels of the pictures as they were given."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, pictures: Picture | Sequence[Picture]) -> Detections | list[Detections]:
        """Detections in one picture, or in each of a list of them (one batch, whatever their sizes).

        Args:
            pictures: a path, PIL picture, RGB array or tensor, or a list or tuple of these; see
                `rcnnkit.images.read_picture`.

        Returns:
            Boxes in the pixels of each picture as it was given, on the detector's device.

        Raises:
            RuntimeError: the detector is in training mode.
            FileNotFoundError, ValueError: a picture cannot be read.
        """
        if self.training:
            raise RuntimeError("the detector is in training mode; call detector.eval() before detecting")
        if not isinstance(pictures, (list, tuple)):
            return self.forward([pictures])[0]  # type: ignore[list-item, index]  # one picture, one answer
        if not pictures:
            return []
        with torch.inference_mode():
            return self.detect(self.preprocessing(pictures, self.device))
