"""R-CNN's warp: each region, with context, as a picture of one size (arXiv:1311.2524v5, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rcnnkit.ops.library import load, miss_cuda
from rcnnkit.ops.regions import as_rois, empty_gradient, is_channels_last, no_second_gradient, pair

HAS_CUDA = load()


def warp_regions(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int] = 227,
    context: int = 16,
    fill: float | Sequence[float] = 0.0,
    square: bool = False,
) -> Tensor:
    """Each region, stretched to `output_size` with `context` pixels around it; differentiable in `input`.

    Follows the released Caffe window layer: the region is enlarged about its centre so that it fills all but
    `context` pixels at each side of the output, its corners are rounded (halves away from zero) and taken as
    inclusive, and what lies on the picture is resized bilinearly, without antialiasing, to its share of the
    output. The rest is `fill`: the mean pixel, or 0 where the mean was subtracted before. With `context = 0` and
    not `square`, the region's own pixels are resized, nothing else.

    Args:
        input: (B, C, H, W) pictures, float32, float64, float16 or bfloat16, with any strides.
        boxes: (R, 5) rows (picture, x1, y1, x2, y2), or one (N, 4) xyxy for each picture; pixels.
        output_size: (rows, columns), or one number for both.
        context: pixels of the output, on each side; less than half of it.
        fill: for all channels, or one for each.
        square: take the tightest square around the region in place of the region (appendix A, B).

    Returns:
        (R, C, rows, columns) in the input's dtype, contiguous. A region off the picture or not finite is all
        `fill`.

    Raises:
        ValueError: a shape, a device, `context` or the length of `fill` is wrong.
        RuntimeError: a picture that the batch has not (on CUDA such a region is all `fill`).
    """
    rois, (rows, columns) = as_rois(input, boxes), pair(output_size)
    if not 0 <= 2 * context < min(rows, columns):
        raise ValueError(f"context is {context}, which leaves nothing of an output of {rows} × {columns}")
    fills = (fill,) * input.shape[1] if isinstance(fill, int | float) else tuple(fill)
    if len(fills) != input.shape[1]:
        raise ValueError(f"fill has {len(fills)} numbers for {input.shape[1]} channels; pass one for each, or one")
    device = input.device
    if input.is_cuda and not HAS_CUDA:
        miss_cuda()
        input, rois = input.cpu(), rois.cpu()
    filling = torch.tensor(fills, dtype=torch.float64, device=input.device)
    return torch.ops.rcnnkit.warp_regions(input, rois, filling, rows, columns, context, square).to(device)


@torch.library.register_fake("rcnnkit::warp_regions")
def _(input: Tensor, rois: Tensor, fill: Tensor, height: int, width: int, context: int, square: bool) -> Tensor:
    return input.new_empty(rois.shape[0], input.shape[1], height, width)


@torch.library.register_fake("rcnnkit::warp_regions_backward")
def _(
    grad: Tensor,
    rois: Tensor,
    batch: int,
    channels: int,
    height: int,
    width: int,
    context: int,
    square: bool,
    channels_last: bool,
    deterministic: bool,
) -> Tensor:
    return empty_gradient(grad, (batch, channels, height, width), channels_last)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, rois, _, _, _, context, square = inputs
    ctx.save_for_backward(rois)
    ctx.arguments = (*input.shape, context, square, is_channels_last(input))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (rois,) = ctx.saved_tensors
    deterministic = torch.are_deterministic_algorithms_enabled()
    return torch.ops.rcnnkit.warp_regions_backward(grad, rois, *ctx.arguments, deterministic), *(None,) * 6


torch.library.register_autograd("rcnnkit::warp_regions", _backward, setup_context=_setup)
torch.library.register_autograd("rcnnkit::warp_regions_backward", no_second_gradient("warp_regions"))
