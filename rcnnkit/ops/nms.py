"""Non-maximum suppression: of boxes that overlap, the best stays."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnnkit.ops.library import load, miss_cuda
from rcnnkit.processes import say_forked

HAS_CUDA = load()


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The boxes that greedy suppression keeps.

    The best box is kept and every box drops out whose IoU with it exceeds the threshold; then the best of the
    rest, and so on. Ties go to the lower index. NaN scores come first, as in `torch.sort`; a box with a NaN
    coordinate or a side that is not positive overlaps nothing.

    Args:
        boxes: (N, 4) xyxy, any frame. float16 and bfloat16 are computed in float32.
        scores: (N,), higher is better.
        iou_threshold: 0 or more.

    Returns:
        (K,) int64 indices, best score first.

    Raises:
        TypeError: boxes or scores are no tensors.
        ValueError: a shape, a device or the threshold is wrong.
    """
    _check(boxes, scores, iou_threshold)
    if boxes.is_cuda and not HAS_CUDA:
        miss_cuda()
        from torchvision.ops import nms as fallback

        return fallback(*_floats(boxes, scores), iou_threshold)
    return torch.ops.rcnnkit.nms(boxes, scores, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each group: boxes of different groups never suppress each other.

    Exact for any coordinates, negative ones too: groups are kept apart, not moved apart.

    Args:
        boxes: (N, 4) xyxy, any frame.
        scores: (N,), higher is better.
        idxs: (N,) the group of each box: its class, or image × level × class.
        iou_threshold: 0 or more.

    Returns:
        (K,) int64 indices of all groups, best score first.

    Raises:
        TypeError: boxes, scores or idxs are no tensors.
        ValueError: a shape, a device or the threshold is wrong.
    """
    _check(boxes, scores, iou_threshold)
    if not isinstance(idxs, Tensor):
        raise TypeError(f"idxs must be a tensor, not {type(idxs).__name__}; torch.as_tensor makes one")
    if idxs.shape != scores.shape:
        raise ValueError(f"idxs has shape {tuple(idxs.shape)}, expected one group a box: {tuple(scores.shape)}")
    if idxs.device != boxes.device:
        raise ValueError(f"idxs are on {idxs.device}, boxes are on {boxes.device}; move one to the other")
    if idxs.is_floating_point():
        idxs = idxs.unique(return_inverse=True)[1]
    if boxes.is_cuda and not HAS_CUDA:
        miss_cuda()
        from torchvision.ops import batched_nms as fallback

        return fallback(*_floats(boxes, scores), idxs, iou_threshold)
    return torch.ops.rcnnkit.batched_nms(boxes, scores, idxs, iou_threshold)


def nms_sorted(boxes: Tensor, counts: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes greedy suppression keeps, of many rows at once, sorted already; its size does not depend on them.

    So on CUDA nothing waits for the device. It needs rcnnkit's CUDA operators there: torchvision has none that serves.

    Args:
        boxes: (G, N, 4) xyxy, best first in each row; those of different rows do not suppress each other.
        counts: (G,) int64, how many of each row are boxes; the rest are neither read nor kept.
        iou_threshold: 0 or more.

    Returns:
        (G, N) bool.

    Raises:
        RuntimeError: a shape or the threshold is wrong.
    """
    say_forked()
    return torch.ops.rcnnkit.nms_sorted(boxes, counts, iou_threshold)


def _floats(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """As torchvision wants them on CUDA: of one type, and of none that it does not know."""
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
    return boxes, scores.to(boxes)


def _check(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    say_forked()
    if not (isinstance(boxes, Tensor) and isinstance(scores, Tensor)):
        other = type(scores if isinstance(boxes, Tensor) else boxes).__name__
        raise TypeError(f"boxes and scores must be tensors, not {other}; torch.as_tensor makes one")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes has shape {tuple(boxes.shape)}, expected (N, 4) xyxy; for none pass (0, 4)")
    if scores.ndim != 1 or scores.shape[0] != boxes.shape[0]:
        raise ValueError(f"scores has shape {tuple(scores.shape)}, expected ({boxes.shape[0]},), one a box")
    if scores.device != boxes.device:
        raise ValueError(f"scores are on {scores.device}, boxes are on {boxes.device}; move one to the other")
    if not iou_threshold >= 0:
        raise ValueError(f"iou_threshold is {iou_threshold}; it must be 0 or more")


@torch.library.register_fake("rcnnkit::nms")
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@torch.library.register_fake("rcnnkit::batched_nms")
def _(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@torch.library.register_fake("rcnnkit::nms_sorted")
def _(boxes: Tensor, counts: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(boxes.shape[:2], dtype=torch.bool)
