"""What each step of a detector did with one picture: times, counts, maps, proposals, and the cells of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from rcnnkit.boxes import clip, scale
from rcnnkit.detectors.detector import Detector
from rcnnkit.stages import StageClock, timed
from rcnnkit.structures import Array, Detections, ImageBatch, Proposals, Size
from rcnnkit.text import count

SHOWN = 100  # proposals, the best ones
FINEST = 48  # cells of a map that is shown, on its longer side
BRIGHTEST = 255

Grid = list[list[int]]  # rows of cells, from 0 for the weakest one to BRIGHTEST for the strongest


class Step(BaseModel):
    """One step, from a picture to what is in it."""

    name: str = Field(description="image, features, proposals, regions or detections.")
    milliseconds: float
    made: str = Field(description="What came out of it, in words.")


class FeatureMap(BaseModel):
    """What the backbone made."""

    channels: int
    height: int
    width: int
    cells: Grid = Field(description="The mean strength of all channels, 0 (weakest cell) to 255; averaged if large.")


class Region(BaseModel):
    """A box, and what the head sees of it."""

    name: str = Field(description="The class; of a proposal nothing.")
    score: float
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in the pixels of the upright picture.")
    label: int = Field(description="The number of the class, from 0; of a proposal -1.")
    stride: int = Field(description="Of the map that it is pooled from; 0 where regions do not come from maps.")
    cells: Grid = Field(description="The mean strength of all channels, 0 (weakest cell) to 255; or no rows.")


class Steps(BaseModel):
    """How the objects of a picture were found."""

    width: int = Field(description="Of the upright picture.")
    height: int
    steps: list[Step]
    maps: list[FeatureMap]
    proposals: list[Region] = Field(description=f"The best {SHOWN}.")
    detections: list[Region]


def trace(detector: Detector, picture: Array) -> Steps:
    """Detect in a picture (H, W, 3), and say what each step did. Nobody else may call the detector meanwhile.

    Raises:
        As the detector's call.
    """
    clock = StageClock(detector.device)
    made: dict[str, Any] = {}
    with timed(detector, clock, lambda stage, result: made.update({stage: result})), torch.no_grad():
        with clock.stage("resize"):
            (images,) = detector.batches([picture])
        with clock.stage("other"):
            (found,) = detector.detect(images)
    (proposals,) = made["proposals"]
    proposals = proposals[proposals.scores.isfinite()]  # a GPU's are filled up
    pooled = detector.shares_features and images.pixels.shape[-1] > 0
    features = list(made["backbone"]) if pooled else []
    size, original = images.sizes[0], images.original_sizes[0]
    with torch.no_grad():
        best = proposals[:SHOWN]
        framed = Proposals(scale(found.boxes, original, size), found.scores)
        shown = Detections(
            clip(scale(best.boxes, size, original), original),
            best.scores,
            best.scores.new_full((len(best),), -1).long(),
        )
        return Steps(
            width=original[1],
            height=original[0],
            steps=_steps(detector, clock.seconds, images, features, proposals, found),
            maps=[_map(each[0]) for each in features],
            proposals=_regions(detector, features, best, shown, [""] * len(best)),
            detections=_regions(detector, features, framed, found, found.names),
        )


def _steps(
    detector: Detector,
    seconds: Mapping[str, float],
    images: ImageBatch,
    features: Sequence[Tensor],
    proposals: Proposals,
    found: Detections,
) -> list[Step]:
    def step(name: str, made: str, *stages: str) -> Step:
        return Step(name=name, made=made, milliseconds=round(1000 * sum(seconds.get(s, 0.0) for s in stages), 2))

    sizes: tuple[Size, Size] = (images.original_sizes[0], images.sizes[0])
    original, size = (f"{width} × {height}" for height, width in sizes)
    if features:
        maps = f"{count(len(features), 'map')} of {features[0].shape[1]:,} channels, the finest with"
        maps += f" {features[0].shape[3]} × {features[0].shape[2]} cells"
        side = detector.pool.size
        regions = f"{count(len(proposals), 'region')} of {side} × {side} cells and {features[0].shape[1]:,} channels"
    elif detector.shares_features:
        maps, regions = "maps of the picture at several sizes", f"{count(len(proposals), 'region')} from these maps"
    else:
        maps = "features of each region by itself, not of the picture"
        regions = f"{count(len(proposals), 'region')}, each warped to one size"
    return [
        step("image", f"{original} pixels, resized to {size}", "resize"),
        step("features", maps, "backbone"),
        step("proposals", f"{count(len(proposals), 'place')} where an object might be", "proposals"),
        step("regions", regions, "regions"),
        step("detections", f"{count(len(found), 'object')} of any score", "heads", "suppression", "other"),
    ]


def _regions(
    detector: Detector, features: Sequence[Tensor], framed: Proposals, shown: Detections, names: Sequence[str]
) -> list[Region]:
    """The boxes of `shown`, in the picture, with what is pooled of the same boxes in the frame of the network."""
    strides = [0] * len(shown)
    cells: list[Grid] = [[] for _ in names]
    if features and len(framed):
        pooled = detector.pool(features, [framed])  # (R, C, s, s)
        cells = [_grid(each) for each in pooled]
        at = detector.pool.strides
        levels = detector.pool.level(framed.boxes).tolist() if len(at) > 1 else [0] * len(framed)
        strides = [at[level] for level in levels]
    return [
        Region(name=name, score=score, box=box, label=label, stride=stride, cells=grid)
        for name, (_, score, box), label, stride, grid in zip(
            names, shown, shown.labels.tolist(), strides, cells, strict=True
        )
    ]


def _map(feature: Tensor) -> FeatureMap:
    """Of (C, h, w)."""
    channels, height, width = feature.shape
    factor = min(1.0, FINEST / max(height, width))
    small = F.adaptive_avg_pool2d(
        feature.float().abs(), (max(1, round(factor * height)), max(1, round(factor * width)))
    )
    return FeatureMap(channels=channels, height=height, width=width, cells=_grid(small))


def _grid(feature: Tensor) -> Grid:
    """(C, h, w) → the mean strength of all channels, stretched; 0 where all cells are alike."""
    strength = feature.float().abs().mean(dim=0)
    above = strength - strength.min()
    cells: Grid = (above / above.max().clamp(min=1e-12) * BRIGHTEST).round().int().tolist()
    return cells
