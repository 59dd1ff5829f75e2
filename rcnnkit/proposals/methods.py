"""Proposal methods behind one call, `propose(images, features)`, so that a detector takes any of them.

Those in this file look at the pictures and not at the features; the region proposal network (`rpn.py`) looks at the
features and not at the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from rcnnkit.boxes import scale
from rcnnkit.proposals.selective_search import MODE, Mode, selective_search
from rcnnkit.proposals.sliding_windows import sliding_windows
from rcnnkit.settings import Count, Positive, Section
from rcnnkit.structures import ImageBatch, Proposals


class SearchSettings(Section):
    """Of selective search, in [proposals]."""

    mode: Mode = MODE
    """How many strategies selective search pools: single 1, fast 8, quality 80 (Uijlings et al. 2013, table 5). R-CNN
    and Fast R-CNN use fast."""
    min_side: Count = 20
    """The shortest side of a proposal, pixels; smaller ones are left out. 20 is R-CNN's and Fast R-CNN's."""
    max_width: Count = 0
    """Wider pictures are made this wide for the search, pixels, and `min_side` is measured there. 0: none, as for VOC
    in R-CNN and Fast R-CNN; R-CNN's demo takes 500."""
    seed: Count = 0
    """Seed of the random numbers that rank the proposals (Uijlings et al. 2013, section 4.2)."""


class ProposalSettings(SearchSettings):
    """[proposals]: where the regions of R-CNN and Fast R-CNN come from. Faster R-CNN makes its own: see [rpn]."""

    method: Literal["selective_search", "sliding_windows", "precomputed"] = "selective_search"
    """What finds the regions. selective_search: see `mode`. sliding_windows: windows of five sizes and three shapes, on
    a grid. precomputed: whatever `folder` holds; when detecting, what the caller gives."""
    folder: Path | None = None
    """Where proposals are kept between runs. Not given: proposals/ and the name of `data.root`."""
    train_count: Positive = 2000
    """How many of a picture's best proposals are used in training; about 2000 in R-CNN and Fast R-CNN."""
    count: Positive = 2000
    """How many of a picture's best proposals are used in detection; about 2000 in R-CNN and Fast R-CNN."""


def proposal_method(settings: ProposalSettings) -> PictureMethod | None:
    """What finds the regions of R-CNN and Fast R-CNN; None where they are to be given."""
    if settings.method == "precomputed":
        return None
    return SlidingWindows() if settings.method == "sliding_windows" else SelectiveSearch(settings)


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
            regions = self.find(picture)
            regions = Proposals(scale(regions.boxes, original, size), regions.scores)
            proposals.append(regions.to(images.pixels.device))
        return proposals


class SelectiveSearch(PictureMethod):
    """See `rcnnkit.proposals.selective_search`."""

    name = "selective-search"

    def __init__(self, settings: SearchSettings = SearchSettings()) -> None:  # noqa: B008  # it is frozen
        self.settings = {name: getattr(settings, name) for name in SearchSettings.model_fields}

    def find(self, picture: np.ndarray) -> Proposals:
        mode, min_side, seed, max_width = (self.settings[name] for name in ("mode", "min_side", "seed", "max_width"))
        width = max_width if max_width < picture.shape[1] else 0
        return selective_search(picture, mode, min_side=min_side, seed=seed, width=width)


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
