"""How sizes and numbers are distributed, for the plots of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnnkit.checking.check import Checked
from rcnnkit.checking.network import input_sides
from rcnnkit.detectors.kinds import KINDS
from rcnnkit.structures import Array

BARS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Numbers in intervals that are equally wide on a logarithmic axis."""

    label: str
    edges: Sequence[float]  # of the B intervals, B + 1
    counts: Array  # (B,)
    ticks: Sequence[float]
    marks: Sequence[float] = ()  # to be compared with, such as anchors


def histograms(checked: Checked) -> list[Histogram]:
    """Of all splits together: objects at the network's input, their shapes, their number, and the pictures' sizes."""
    settings, splits = checked.settings, list(checked.splits.values())
    sides = np.concatenate([np.zeros((0, 2)), *(input_sides(objects, settings).numpy() for objects in splits)])
    sides = sides[(sides > 0).all(axis=1)]
    numbers = np.concatenate([np.zeros(0), *(objects.counts for objects in splits)])
    sizes = np.concatenate([np.zeros((0, 2)), *(objects.sizes for objects in splits)])
    anchors: list[float] = []
    if KINDS[settings.model.kind].has_rpn:
        anchors = sorted({size for of_map in settings.rpn.sizes(settings.model.strides) for size in of_map})
    marked = " (dashed: anchors)" if anchors else ""
    return [
        _histogram(f"√area of objects at the input, pixels{marked}", np.sqrt(sides.prod(axis=1)), (2, 1024), anchors),
        _histogram("height ÷ width of objects", sides[:, 1] / sides[:, 0], (0.125, 8), ()),
        _histogram("objects of a picture that has any", numbers[numbers > 0], (1, 256), ()),
        _histogram("shorter side of pictures as they are, pixels", sizes.min(axis=1), (32, 4096), ()),
    ]


def _histogram(label: str, values: Array, usual: tuple[float, float], marks: Sequence[float]) -> Histogram:
    """Over the usual range of values, or a wider one where there are others; ticks are powers of 2."""
    low = min(usual[0], float(values.min(initial=usual[0])))
    high = max(usual[1], float(values.max(initial=usual[1])))
    first, last = int(np.floor(np.log2(low))), int(np.ceil(np.log2(high)))
    edges = np.geomspace(2.0**first, 2.0**last, BARS + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    step = max(1, -(-(last - first) // 6))
    return Histogram(label, edges.tolist(), counts, [2.0**power for power in range(first, last + 1, step)], marks)
