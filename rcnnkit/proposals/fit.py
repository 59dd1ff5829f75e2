"""Anchors beside the boxes that they are for: the share that they reach, and anchors that reach more.

An anchor of the right size and shape may still miss a box, as anchors stand on a grid: the box lies up to half a stride
from the nearest one. For a box of 12 pixels and a stride of 16 this decides. So boxes are laid onto the grid at many
places, spread evenly, and an anchor reaches the share of these places where its IoU is large enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcnnkit.proposals.rpn import RPNSettings

REACHED = 0.5  # IoU. COCO's first threshold; matching takes an object's best anchor, whatever its IoU
PLACES = 64  # that a box is laid at
PART = 4096  # boxes whose overlaps are in memory at a time
LOOKED_AT = 2000  # boxes that anchors are fitted to, evenly from all
NEARLY = 0.05  # share of the boxes that is not worth more anchors, or other ones than the defaults
BASES = 13  # finest anchors that are tried: from 2 to 16 strides, four an octave


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors as `rpn.anchor_sizes` and `rpn.anchor_ratios` have them, and what they are good for."""

    sizes: list[list[float]]  # square roots of areas for each map, pixels of the network's input
    ratios: list[float]  # height / width
    share: float  # of the boxes that they were fitted to, as `reach` gives it

    @property
    def count(self) -> int:
        """Anchors at each cell."""
        return len(self.sizes[0]) * len(self.ratios)


def reach(sides: Tensor, settings: RPNSettings, strides: Sequence[int], iou: float = REACHED) -> Tensor:
    """How surely each box has an anchor that overlaps it enough: (N,) in [0, 1]; the mean is the share of boxes.

    It is the share of places on the grid of anchors where one does. Where the picture ends, the grid does too, which
    is left out.

    Args:
        sides: (N, 2) widths and heights of boxes, pixels of the network's input.
        settings: the anchors.
        strides: of each map, pixels.
        iou: that counts as enough, above 0.

    Raises:
        ValueError: a side is not a finite number above 0, or `settings.anchor_sizes` has not one list for each map.
    """
    return (_best(_checked(sides), settings.cells(strides), strides, iou, PLACES) >= iou).float().mean(dim=1)


def fit_anchors(sides: Tensor, strides: Sequence[int]) -> Anchors:
    """Anchors for boxes of these sizes: the simplest that reach nearly as many as any that were tried.

    Sizes of a pyramid go with the strides, as each map sees objects of its own size (FPN, arXiv:1612.03144, 4.1): they
    double from map to map, and the finest is fitted. Only then other ratios are tried, the quantiles of the boxes' own,
    and two sizes a map, half an octave apart or so that they span twice the octaves. The defaults stay where they are
    good enough; weights that were trained with them go on with them.

    Args:
        sides: (N, 2) widths and heights of boxes, pixels of the network's input.
        strides: of each map, pixels.

    Raises:
        ValueError: there are no boxes, or a side is not a finite number above 0.
    """
    if not len(_checked(sides)):
        raise ValueError("there are no boxes to fit anchors to")
    looked_at = sides[:: -(-len(sides) // LOOKED_AT)]
    thresholds = torch.tensor([REACHED, 0.6, 0.7])  # 0.7 is the IoU from which the RPN learns from an anchor
    choices_tried: list[tuple[float, RPNSettings]] = []
    for choices in _candidates(looked_at, strides):
        overlaps = [_best(looked_at, each.cells(strides), strides, REACHED, PLACES // 4) for each in choices]
        shares = [(each[..., None] >= thresholds).float().mean(dim=(0, 1)) for each in overlaps]
        best = max(range(len(choices)), key=lambda i: float(shares[i].mean()))
        choices_tried.append((float(shares[best][0]), choices[best]))
    enough = max(share for share, _ in choices_tried) - NEARLY
    chosen = next(settings for share, settings in choices_tried if share >= enough)
    share = float(reach(sides, chosen, strides).mean())
    return Anchors(chosen.sizes(strides), chosen.anchor_ratios, share)


def _candidates(sides: Tensor, strides: Sequence[int]) -> Iterator[list[RPNSettings]]:
    """Anchors to choose from, the simplest first; of each list only the best counts."""
    default = RPNSettings()
    yield [default]
    shapes = [default.anchor_ratios, *(_quantiles(sides[:, 1] / sides[:, 0], count) for count in (3, 5))]
    pyramid = len(strides) > 1
    for count, steps in ((1, [2.0]), (2, [math.sqrt(2), 2.0])) if pyramid else ((5, [2.0]), (9, [math.sqrt(2)])):
        for ratios in shapes:
            yield [
                RPNSettings(anchor_sizes=_ladder(strides, base, count, step), anchor_ratios=ratios)
                for base in (round(2 * strides[0] * 2 ** (i / 4)) for i in range(BASES))
                for step in steps
            ]


def _ladder(strides: Sequence[int], base: int, count: int, step: float) -> list[list[float]]:
    """`count` sizes for each map, whole pixels: each `step` times the one before, or maps an octave apart if more."""
    between = max(step**count, 2.0) if len(strides) > 1 else 1.0
    return [[float(round(base * between**level * step**i)) for i in range(count)] for level, _ in enumerate(strides)]


def _quantiles(ratios: Tensor, count: int) -> list[float]:
    """So many of the ratios, from the middles of as many equal parts of them; two digits each."""
    middles = (torch.arange(count) + 0.5) / count
    return sorted({float(f"{ratio:.2g}") for ratio in ratios.float().quantile(middles).tolist()})


def _best(sides: Tensor, cells: Sequence[Tensor], strides: Sequence[int], smallest: float, places: int) -> Tensor:
    """(N, P) largest IoU of each box with an anchor, at each of P places on the grid; 0 where below `smallest`."""
    anchors = torch.cat([each[:, 2:] - each[:, :2] for each in cells])  # (A, 2)
    spacing = torch.tensor([stride for stride, each in zip(strides, cells, strict=True) for _ in each])
    at = _places(places) * max(strides)  # (P, 2): the coarsest map's period is that of all
    # (A, P, 2): pixels from the box's centre to that of the nearest anchor of each kind
    far = (at - spacing[:, None, None] * (at / spacing[:, None, None]).round()).abs()
    columns = []
    for part in sides.float().split(PART):
        centred = _iou(part[:, None], anchors, torch.zeros(2))
        box, anchor = (centred >= smallest).nonzero(as_tuple=True)  # others are no nearer anywhere
        overlaps = _iou(part[box][:, None], anchors[anchor][:, None], far[anchor])  # (pairs, P)
        best = torch.zeros(len(part), places)
        columns.append(best.scatter_reduce(0, box[:, None].expand_as(overlaps), overlaps, "amax"))
    return torch.cat(columns)


def _iou(sides: Tensor, anchors: Tensor, far: Tensor) -> Tensor:
    """Of boxes by their sides (…, 2), whose centres are `far` (…, 2) apart."""
    shared = torch.minimum(torch.minimum(sides, anchors), (sides + anchors) / 2 - far).clamp(min=0).prod(dim=-1)
    return shared / (sides.prod(dim=-1) + anchors.prod(dim=-1) - shared)


def _places(count: int) -> Tensor:
    """(count, 2) places in the unit square, spread evenly: a Kronecker sequence on the plastic number's powers."""
    plastic = 1.324717957244746
    return torch.frac(torch.arange(1, count + 1)[:, None] * torch.tensor([1 / plastic, 1 / plastic**2]) + 0.5)


def _checked(sides: Tensor) -> Tensor:
    if sides.ndim != 2 or sides.shape[1] != 2:
        raise ValueError(f"sides has shape {tuple(sides.shape)}, expected (N, 2): widths and heights")
    if len(wrong := sides[~(sides.isfinite() & (sides > 0)).all(dim=1)]):
        raise ValueError(f"a box is {wrong[0, 0]:g} pixels wide and {wrong[0, 1]:g} high; both must be above 0")
    return sides
