"""Anchors (Faster R-CNN, arXiv:1506.01497v3, 3.1.1): boxes of several sizes and shapes at every cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnnkit.structures import Size


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """The A anchors of one cell, centred on (0, 0): (A, 4) xyxy, whole pixels.

    Args:
        sizes: square roots of the anchors' areas, pixels.
        ratios: height / width.

    Ratio-major, as in the paper's code; centred and rounded as torchvision does, where the
    paper's code starts from a 16×16 box at (0, 0, 15, 15) and rounds its sides.
    """
    areas = torch.tensor(sizes, dtype=torch.float32)
    stretch = torch.tensor(ratios, dtype=torch.float32).sqrt()
    widths = ((1 / stretch)[:, None] * areas).flatten()
    heights = (stretch[:, None] * areas).flatten()
    return (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()


def grid_anchors(cells: Tensor, map_size: Size, padded_size: Size, stride: int | None = None) -> Tensor:
    """`cells` repeated over a feature map: (h·w·A, 4) xyxy in the frame of the batch's pixels.

    Args:
        cells: (A, 4) from `cell_anchors`.
        map_size: (h, w) of the feature map.
        padded_size: (H, W) of the batch's pixels.
        stride: pixels from cell to cell. None: H // h and W // w, torchvision's definition, which is the network's own
            stride wherever the padded sides are multiples of it (`Preprocessing.divisor`) and the map has a cell for
            each. Caffe's pooling leaves one more, ZFNet's 41 rows of 640 pixels, and 640 // 41 is 15.
    """
    y = torch.arange(map_size[0], device=cells.device) * (stride or padded_size[0] // map_size[0])
    x = torch.arange(map_size[1], device=cells.device) * (stride or padded_size[1] // map_size[1])
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1)
    return (shifts[:, :, None] + cells).reshape(-1, 4)
