"""Box geometry as plain functions; the only encode and decode in the project.

Boxes are (N, 4) float xyxy in continuous pixels: width is x2 - x1, with no + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# A box grows 62.5 times at most: exp() of a wild guess would overflow. The papers do not clamp; torchvision and
# detectron2 do, at this value.
MAX_LOG_SCALE = math.log(1000 / 16)
UNWEIGHTED = (1, 1, 1, 1)  # deltas as the papers' equations have them


def check_boxes(boxes: Tensor) -> None:
    """Raise ValueError unless `boxes` is (N, 4)."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"boxes has shape {tuple(boxes.shape)}, expected (N, 4) xyxy; for no boxes pass torch.empty(0, 4)"
        )


def check_inside(boxes: Tensor, size: tuple[int, int], name: str) -> None:
    """Raise ValueError unless (N, 4) `boxes` are finite and at most a pixel, which rounding explains, outside a
    picture of `size` (height, width); `name` begins the message."""
    if not boxes.isfinite().all():
        raise ValueError(f"{name} hold a number that is not finite")
    outside = ((boxes - clip(boxes, size)).abs() > 1).any(dim=1)
    if outside.any():
        raise ValueError(
            f"{name} hold {boxes[outside][0].tolist()}, which lies outside the picture, {size[1]} wide and {size[0]}"
            " high; were they made for another one?"
        )


def area(boxes: Tensor) -> Tensor:
    """(N,) areas in square pixels of (N, 4) boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, M) areas shared by each of (N, 4) `boxes` with each of (M, 4) `others`."""
    # Side by side: an (N, M, 2) tensor and the product along its last dimension take twice as long.
    width = torch.minimum(boxes[:, None, 2], others[:, 2]) - torch.maximum(boxes[:, None, 0], others[:, 0])
    height = torch.minimum(boxes[:, None, 3], others[:, 3]) - torch.maximum(boxes[:, None, 1], others[:, 1])
    return width.clamp(min=0) * height.clamp(min=0)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, M) intersection over union of (N, 4) `boxes` and (M, 4) `others`; 0 where both are empty."""
    shared = intersection(boxes, others)
    union = area(boxes)[:, None] + area(others) - shared
    return torch.where(shared > 0, shared / union, 0)


def covered(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, M) share of each box that lies inside each of `others`: COCO's overlap with a crowd."""
    shared = intersection(boxes, others)
    return torch.where(shared > 0, shared / area(boxes)[:, None], 0)


def placed(values: Sequence[float], like: Tensor) -> Tensor:
    """These numbers on the device of `like`, in its type. A GPU that is at work is not waited for, as by
    `Tensor.new_tensor`."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 4) boxes cut to a picture of `size` (height, width)."""
    height, width = size
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def clip_each(boxes: Tensor, sizes: Tensor) -> Tensor:
    """(B, …, 4) boxes cut to B pictures of `sizes` (B, 2), each (height, width), of the boxes' type."""
    most = torch.cat([sizes, sizes], 1).flip(1)  # (B, 4): width, height, width, height
    return torch.minimum(boxes.clamp(min=0), most.reshape(-1, *([1] * (boxes.ndim - 2)), 4))


def scale(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(N, 4) boxes of a picture of size `old` (height, width), after it was resized to `new`."""
    y, x = new[0] / old[0], new[1] / old[1]
    return boxes * placed([x, y, x, y], boxes)


def is_large(boxes: Tensor, min_side: float) -> Tensor:
    """(…) bool of (…, 4) boxes: both sides are at least `min_side` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= min_side).all(dim=-1)


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = UNWEIGHTED) -> Tensor:
    """Deltas that carry each anchor onto its box.

    Args:
        boxes: (N, 4) float32 xyxy, pixels, sides > 0.
        anchors: (N, 4), same frame as `boxes`, sides > 0.
        weights: of (dx, dy, dw, dh): 1 / the standard deviation that normalises each.

    Returns:
        (N, 4) float32 (dx, dy, dw, dh), no unit.

    Raises:
        ValueError: the shapes differ.

    Source: R-CNN, arXiv:1311.2524v5, appendix C, equations 6-9; the weights are
    Fast R-CNN's target normalisation with mean 0 (arXiv:1504.08083, 2.3).
    """
    if boxes.shape != anchors.shape:
        raise ValueError(
            f"boxes {tuple(boxes.shape)} and anchors {tuple(anchors.shape)} differ; pair each box with one anchor first"
        )
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + size / 2) - (anchors[:, :2] + anchor_size / 2)
    deltas = torch.cat([shift / anchor_size, (size / anchor_size).log()], dim=1)
    return deltas * placed(weights, deltas)


def decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float] = UNWEIGHTED) -> Tensor:
    """The boxes onto which `deltas` carry `anchors`: the inverse of `encode`.

    Args:
        deltas: (N, ..., 4) float (dx, dy, dw, dh); several per anchor are allowed (one per class).
        anchors: (N, 4) xyxy, pixels.
        weights: as given to `encode`.

    Returns:
        (N, ..., 4) xyxy in the frame of `anchors`, not clipped. dw and dh are clamped at
        ln(1000/16), so that a wild guess stays finite.

    Source: R-CNN, appendix C, equations 1-4.
    """
    anchors = anchors.reshape(anchors.shape[0], *([1] * (deltas.ndim - 2)), 4)
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    deltas = deltas / placed(weights, deltas)
    centre = deltas[..., :2] * anchor_size + (anchors[..., :2] + anchor_size / 2)
    half = deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=-1)
