"""An operator that only exists while a detector is traced for ONNX, which has its own for it."""

from __future__ import annotations

import torch
from torch import Tensor

LIBRARY = "rcnnkit_export"
LOWEST = -3e38  # what scores more is a box; −∞ is none

torch.library.define(f"{LIBRARY}::suppress", "(Tensor boxes, Tensor scores, float iou, int most) -> Tensor")


@torch.library.impl(f"{LIBRARY}::suppress", "CPU")
def _suppress(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Something of the right shape is enough for what comes after."""
    return torch.where(scores > LOWEST)[0][:1, None].expand(-1, 2) * 0


def suppress(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """`rcnnkit.exporting.traced.Suppression`, as ONNX's NonMaxSuppression."""
    kept: Tensor = torch.ops.rcnnkit_export.suppress(boxes, scores, iou, most)
    return kept
