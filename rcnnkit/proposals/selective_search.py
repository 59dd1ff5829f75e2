"""Selective search (Uijlings et al., "Selective Search for Object Recognition", IJCV 104, 2013).

A picture is cut into small regions (Felzenszwalb and Huttenlocher, IJCV 59, 2004), and the two most similar neighbours
are merged until one is left; every region on the way is a proposal. A strategy is one such hierarchy: a colour space,
its segmentation's k (larger: fewer regions), and the similarities that are added up. Strategies that differ find
different objects, so their proposals are pooled, ranked and cleared of duplicates.

The authors' release hides its colour conversion, histograms, similarities and merging, so these follow the paper, and
where it is silent: hue is linear over 0 … 255, without wrap-around; derivatives are binned over 0 … 102 (a step of 255
answers 101.7), and count as 0 along the opposite orientation; of equal similarities the older pair merges first. Where
this leaves what is known, and what that does to the recall (0.738) and the mean average best overlap (0.716) of the
first 2000 boxes of COCO's first 128 pictures at width 500, mean of 5 seeds, whose spread is 0.004:

- Edges are sorted by lengths rounded to 0.1 %, which takes a counting sort; with 256 times finer steps 0.746 and 0.714.
- Histograms are compared in fixed point, 1/32767 of a channel's share, so that every CPU gives the same boxes; 32 times
  coarser 0.736 and 0.717.
- The random numbers are a hash of seed, strategy and region, so that they depend on no order of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from rcnnkit.boxes import scale
from rcnnkit.images import Picture, read_picture
from rcnnkit.ops.library import load
from rcnnkit.processes import say_forked
from rcnnkit.structures import Array, Proposals, Size

load()

COLOURS = ("rgb", "hsv", "lab", "rgi", "hue", "intensity")  # numbered as in csrc/selective_search/colour.h
SIMILARITIES = {"C": 1, "T": 2, "S": 4, "F": 8}  # colour, texture, size, fill; as in csrc/selective_search/group.h

Mode = Literal["single", "fast", "quality"]
MODE: Mode = "fast"
Strategy = tuple[str, float, str]  # colour space, k, similarities such as "CTSF"

# Section 5.2 and table 5: 1, 8 and 80 strategies. R-CNN and Fast R-CNN use the fast ones.
MODES: dict[str, list[Strategy]] = {
    "single": [("hsv", 100, "CTSF")],
    "fast": list(product(("hsv", "lab"), (50, 100), ("CTSF", "TSF"))),
    "quality": list(product(("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300), ("CTSF", "TSF", "F", "S"))),
}
MAX_SIDE, MAX_PIXELS = 65535, 2**27


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """What one strategy did: R regions of the segmentation, then R - 1 unions of two; the last is the whole picture."""

    labels: Tensor  # (H, W) int32, 0 to R - 1, numbered in raster order
    boxes: Tensor  # (2R - 1, 4) float32 xyxy
    sizes: Tensor  # (2R - 1,) int64, pixels
    merges: Tensor  # (R - 1, 2) int64: region R + i is the union of these
    similarities: Tensor  # (R - 1,) float32, of each merge


def selective_search(
    image: Picture,
    mode: Mode = MODE,
    *,
    min_side: int = 0,
    seed: int = 0,
    width: int = 0,
    strategies: Sequence[Strategy] | None = None,
) -> Proposals:
    """Boxes of what might be objects, of any class, best-ranked first.

    A region's rank in its hierarchy (the whole picture 1, the first merge R - 1, start regions R) times a random number
    orders the boxes of all strategies (section 4.2); of equal boxes the first stays. Runs on as many threads as torch
    was given; the result depends on neither their number nor the CPU.

    Args:
        image: RGB (H, W, 3) uint8, or whatever else `rcnnkit.images.read_picture` takes.
        mode: which strategies: 1, 8 or 80.
        min_side: boxes narrower or lower are left out; pixels of the picture that is searched. The papers' 20.
        seed: of the random numbers; the same one gives the same boxes.
        width: resize the picture to this width first, and the boxes back; 0: as it is. R-CNN's demo takes 500.
        strategies: in place of the mode's.

    Returns:
        (N, 4) boxes in the pixels of `image`, and descending scores in (0, 1], which mean nothing but the order.

    Raises:
        FileNotFoundError, ValueError: the picture cannot be read, is larger than 2^27 pixels or 65535 a side, or an
            argument is out of range.
    """
    for name, value, low, high in (
        ("min_side", min_side, 0, MAX_SIDE),
        ("width", width, 0, MAX_SIDE),
        ("seed", seed, -(2**63), 2**63 - 1),
    ):
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} = {value!r} must be a whole number from {low} to {high}")
    if strategies is None:
        if mode not in MODES:
            raise ValueError(f"mode = {mode!r} is not one of {', '.join(MODES)}")
        strategies = MODES[mode]
    pixels = read_picture(image)
    size: Size = (pixels.shape[0], pixels.shape[1])
    if width and width != size[1]:
        height = max(1, round(size[0] * width / size[1]))
        _check_size(height, width)
        shrinks = width < size[1]
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    boxes, scores = torch.ops.rcnnkit.selective_search(_tensor(pixels), _rows(strategies), min_side, seed)
    return Proposals(scale(boxes, (pixels.shape[0], pixels.shape[1]), size), scores)


def hierarchy(image: Picture, colour: str = "hsv", k: float = 100, similarities: str = "CTSF") -> Hierarchy:
    """The segmentation of a picture and how its regions are merged, under one strategy.

    Args:
        image: as for `selective_search`.
        colour: one of COLOURS.
        k: of the segmentation; also the least pixels of a region.
        similarities: which are added up: letters of C(olour), T(exture), S(ize), F(ill).

    Raises:
        As `selective_search`.
    """
    pixels = _tensor(read_picture(image))
    return Hierarchy(*torch.ops.rcnnkit.selective_search_hierarchy(pixels, _rows([(colour, k, similarities)])))


def _tensor(pixels: Array) -> Tensor:
    """(H, W, 3) uint8."""
    say_forked()
    _check_size(pixels.shape[0], pixels.shape[1])
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))  # torch warns of what is read-only


def _check_size(height: int, width: int) -> None:
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ValueError(
            f"a picture of {height} × {width} is too large for selective search; resize it, or pass width=500"
        )


def _rows(strategies: Sequence[Strategy]) -> Tensor:
    """(S, 3) float64: colour space, k, set of similarities, as the compiled code numbers them."""
    rows = []
    if isinstance(strategies, tuple) and strategies and isinstance(strategies[0], str):
        raise ValueError(f"strategies = {strategies!r} is one strategy; give a list of them")
    for colour, k, similarities in strategies:
        letters = set(similarities)
        if not isinstance(k, int | float):
            raise ValueError(f"k = {k!r} is not a number")
        if colour not in COLOURS:
            raise ValueError(f"colour = {colour!r} is not one of {', '.join(COLOURS)}")
        if not 0 < k < 1e9:
            raise ValueError(f"k = {k} must be above 0 and below 1e9; the paper takes 50 to 300")
        if not letters or not letters <= SIMILARITIES.keys() or len(letters) < len(similarities):
            raise ValueError(f'similarities = {similarities!r} must be letters of "CTSF", each at most once')
        rows.append([COLOURS.index(colour), k, sum(SIMILARITIES[letter] for letter in letters)])
    if len({tuple(row) for row in rows}) < max(1, len(rows)):
        raise ValueError(f"strategies = {list(strategies)} holds none, or one twice")
    return torch.tensor(rows, dtype=torch.float64)
