"""Proposal methods behind one call, `propose(images, features)`, so that a detector takes any of them.

Those in this file look at the pictures and not at the features; the region proposal network (`rpn.py`) looks at the
features and not at the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rcnnkit.boxes import scale
from rcnnkit.proposals.sliding_windows import sliding_windows
from rcnnkit.structures import ImageBatch, Proposals


class PictureMethod:
    """A method that finds proposals in one picture at a time."""

    name: str  # of the method, as a store's folder is called
    settings: dict[str, Any]  # all that changes the boxes; a store's folder is known by them

    def find(self, picture: np.ndarray) -> Proposals:
        """The proposals in an RGB picture (H, W, 3) uint8, in its pixels, best first."""
        raise NotImplementedError

    def propose(self, images: ImageBatch, features: Sequence[Tensor] = ()) -> list[Proposals]:
        """The proposals in each picture, in the frame of the batch's pixels.

        Raises:
            ValueError: the batch came without its pictures.
        """
        if len(images.pictures) != len(images):
            raise ValueError(
                f"{self.name} looks at the pictures as they were given, and this batch came without them;"
                " make it with `Preprocessing.__call__`, or give proposals with it"
            )
        proposals = []
        for picture, original, size in zip(images.pictures, images.original_sizes, images.sizes, strict=True):
            found = self.find(picture)
            found = Proposals(scale(found.boxes, original, size), found.scores)
            proposals.append(found.to(images.pixels.device))
        return proposals


class SlidingWindows(PictureMethod):
    """See `rcnnkit.proposals.sliding_windows`; some 3,000 windows in a picture of 500 × 375 by default."""

    name = "sliding-windows"

    def __init__(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        stride: float = 0.5,
    ) -> None:
        self.settings = {"sizes": list(sizes), "ratios": list(ratios), "stride": stride}
        sliding_windows((1, 1), sizes, ratios, stride)  # wrong settings are found now

    def find(self, picture: np.ndarray) -> Proposals:
        return sliding_windows((picture.shape[0], picture.shape[1]), **self.settings)


class Precomputed:
    """The proposals that came with the batch, made beforehand: read from a store, or given to the detector."""

    def propose(self, images: ImageBatch, features: Sequence[Tensor] = ()) -> list[Proposals]:
        """As they came, in the frame of the batch's pixels.

        Raises:
            ValueError: the batch came without proposals.
        """
        if len(images.proposals) != len(images):
            raise ValueError("this detector takes proposals made beforehand; give them: detector(picture, proposals)")
        return list(images.proposals)
