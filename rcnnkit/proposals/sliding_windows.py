"""Sliding windows: boxes of a few sizes and shapes, spread evenly over the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rcnnkit.boxes import area
from rcnnkit.structures import Proposals, Size


def sliding_windows(size: Size, sizes: Sequence[float], ratios: Sequence[float], stride: float) -> Proposals:
    """Every window of these sizes and shapes, from edge to edge of the picture, each once.

    Neighbours lie at most `stride` of their width (height) apart, evenly, the outermost ones at the edges. A window
    wider or higher than the picture is cut to it. Nothing says which window is good, so large ones come first: there
    are few of them, and the first n of all windows cover the picture at every scale that n allows.

    Args:
        size: (height, width) of the picture, pixels.
        sizes: square roots of the windows' areas, pixels.
        ratios: height / width.
        stride: share of a window's side between it and the next; above 0.

    Returns:
        (N, 4) float32 boxes in the picture's pixels; scores are shares of the picture's area.

    Raises:
        ValueError: a size, ratio or stride is not above 0.
    """
    for name, values in (("sizes", sizes), ("ratios", ratios), ("stride", [stride])):
        if not values or not all(0 < value < math.inf for value in values):
            raise ValueError(f"{name} = {values} must be above 0, each")
    shapes = {  # a set: of those that are cut alike, one
        (min(side * math.sqrt(ratio), size[0]), min(side / math.sqrt(ratio), size[1]))
        for side in sizes
        for ratio in ratios
    }
    parts = []
    for height, width in sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape), reverse=True):
        tops, lefts = _positions(size[0] - height, stride * height), _positions(size[1] - width, stride * width)
        top, left = torch.meshgrid(tops, lefts, indexing="ij")
        parts.append(torch.stack([left, top, left + width, top + height], dim=-1).reshape(-1, 4).float())
    boxes = torch.cat(parts)
    return Proposals(boxes, area(boxes) / (size[0] * size[1]))


def _positions(room: float, step: float) -> Tensor:
    """From 0 to `room`, evenly, at most `step` apart; float64."""
    return torch.linspace(0, room, math.ceil(room / step) + 1, dtype=torch.float64)
