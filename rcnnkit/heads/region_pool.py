"""From feature maps and boxes to one small map per region (Fast R-CNN 2.1, Mask R-CNN 3, FPN 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rcnnkit import fixed_sizes
from rcnnkit.boxes import area
from rcnnkit.ops import roi_align, roi_pool
from rcnnkit.ops.regions import as_rois
from rcnnkit.settings import Count, Section
from rcnnkit.structures import Proposals

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # FPN 4.2: an ImageNet-sized region belongs to P4


class PoolSettings(Section):
    """How regions are pooled, in [model]."""

    pool: Literal["roi_align", "roi_pool"] = "roi_align"
    """How a region of a map becomes cells. roi_align: bilinear samples (Mask R-CNN, arXiv:1703.06870, section 3).
    roi_pool: the maximum in each cell, whose corners are rounded (Fast R-CNN 2.1)."""
    sampling_ratio: Count = 2
    """Samples of RoIAlign in a cell, along each axis; 2 is torchvision's. 0: one for each cell of the map that it
    covers, as in detectron2."""
    aligned: bool = False
    """RoIAlign shifts its samples by half a pixel, as in detectron2; torchvision's detectors do not."""


class RegionPool(nn.Module):
    """RoI pooling or RoIAlign, from the map whose stride suits the region.

    Args:
        strides: of the maps to pool from, finest first; powers of two where there are several.
        size: output is (R, C, size, size).
        settings: see `PoolSettings`.
    """

    def __init__(self, strides: Sequence[int], size: int, settings: PoolSettings) -> None:
        super().__init__()
        self.strides, self.size, self.settings = tuple(strides), size, settings

    def forward(self, features: Sequence[Tensor], proposals: Sequence[Proposals]) -> Tensor:
        """(R, C, size, size) in the features' dtype, regions in the order of the proposals, image after image."""
        return self.pool_rois(features, as_rois(features[0], [p.boxes for p in proposals]))

    def pool_rois(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """The same of rows (R, 5): picture, x1, y1, x2, y2. Tensors alone, so that R stays open in an export."""
        if len(self.strides) == 1:
            return self._pool(features[0], rois, self.strides[0])
        level = self.level(rois[:, 1:].detach())
        if fixed_sizes.are_wanted(rois) and not torch.is_grad_enabled():
            by_map = zip(features, self.strides, strict=False)  # there may be one map more, for the RPN alone
            return sum_in_place(self._pool(f, only(rois, level == i), s) for i, (f, s) in enumerate(by_map))
        rows_of_map = [torch.where(level == i)[0] for i in range(len(self.strides))]
        maps = features[: len(self.strides)]  # there may be one more, for the RPN alone
        pooled = (self._pool(f, rois[rows], s) for f, rows, s in zip(maps, rows_of_map, self.strides, strict=True))
        if torch.is_grad_enabled():
            return torch.cat(list(pooled)).index_select(0, torch.cat(rows_of_map).argsort())
        # Half the copies; their gradients would be whole ones, map after map.
        together = self.empty(maps, rois.shape[0])
        for rows, some in zip(rows_of_map, pooled, strict=True):
            together.index_copy_(0, rows, some)
        return together

    def empty(self, features: Sequence[Tensor], count: int) -> Tensor:
        """(R, C, size, size): a place for `count` regions, in the features' dtype, on their device."""
        return features[0].new_empty(count, features[0].shape[1], self.size, self.size)

    def level(self, boxes: Tensor) -> Tensor:
        """(N,) index into `strides` for each of (N, 4) boxes: floor(4 + log2(√(wh) / 224)) (FPN, equation 1)."""
        level = (CANONICAL_LEVEL + torch.log2(area(boxes).sqrt() / CANONICAL_SIDE) + 1e-6).floor()
        return (level - math.log2(self.strides[0])).nan_to_num(0).clamp(0, len(self.strides) - 1).long()

    def _pool(self, feature: Tensor, rois: Tensor, stride: int) -> Tensor:
        # Boxes stay float32 beside half-precision features, where a coordinate near 800 would be off by 2 pixels.
        if self.settings.pool == "roi_pool":
            return roi_pool(feature, rois, self.size, 1 / stride)
        sampling_ratio, aligned = self.settings.sampling_ratio, self.settings.aligned
        return roi_align(feature, rois, self.size, 1 / stride, sampling_ratio, aligned)


def only(rois: Tensor, chosen: Tensor) -> Tensor:
    """(R, 5) of which all but the `chosen` (R,) lie nowhere: pooling makes zeros of them, and reads nothing."""
    return torch.cat([rois[:, :1], rois[:, 1:].masked_fill(~chosen[:, None], torch.nan)], 1)


def sum_in_place(parts: Iterable[Tensor]) -> Tensor:
    """The sum of one tensor or more, in the first one's memory."""
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total += part
    return total
