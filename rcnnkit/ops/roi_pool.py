"""RoI pooling (Fast R-CNN, arXiv:1504.08083, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rcnnkit.ops.library import load, miss_cuda
from rcnnkit.ops.regions import as_rois, empty_gradient, is_channels_last, no_second_gradient, pair, with_torchvision

HAS_CUDA = load()


def roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """The largest value in each bin of each region; differentiable in `input`.

    As in the released Caffe layer, corners are rounded to whole cells (halves away from zero) and taken as
    inclusive, so that a region is at least one cell large; bins reach from the floor of their first to the
    ceiling of their last edge and may overlap. The gradient goes to the first of equal cells, row by row. NaN
    cells are passed over. A bin outside the map is 0, and so are the bins of a region that is not finite; a bin
    of nothing but NaN or −∞ is −∞.

    Args:
        input: (B, C, H, W) float32, float64, float16 or bfloat16, with any strides.
        boxes: (R, 5) rows (picture, x1, y1, x2, y2), or one (N, 4) xyxy for each picture; pixels of a picture
            that is `1 / spatial_scale` times as large as the map.
        output_size: (rows, columns), or one number for both.
        spatial_scale: cells per pixel.

    Returns:
        (R, C, rows, columns) in the input's dtype, contiguous.

    Raises:
        ValueError: a shape or a device is wrong.
        RuntimeError: a picture that the batch has not (on CUDA such a region gives zeros).
    """
    rois, (rows, columns) = as_rois(input, boxes), pair(output_size)
    if input.is_cuda and not HAS_CUDA:
        miss_cuda()
        return with_torchvision("roi_pool", input, rois, (rows, columns), spatial_scale)
    wants_gradient = torch.is_grad_enabled() and (input.requires_grad or rois.requires_grad)
    return torch.ops.rcnnkit.roi_pool(input, rois, spatial_scale, rows, columns, wants_gradient)[0]


@torch.library.register_fake("rcnnkit::roi_pool")
def _(
    input: Tensor, rois: Tensor, spatial_scale: float, rows: int, columns: int, with_argmax: bool
) -> tuple[Tensor, Tensor]:
    output = input.new_empty(rois.shape[0], input.shape[1], rows, columns)
    return output, input.new_empty(output.shape if with_argmax else (0,), dtype=torch.int32)


@torch.library.register_fake("rcnnkit::roi_pool_backward")
def _(
    grad: Tensor,
    rois: Tensor,
    argmax: Tensor,
    batch: int,
    channels: int,
    height: int,
    width: int,
    channels_last: bool,
    deterministic: bool,
) -> Tensor:
    return empty_gradient(grad, (batch, channels, height, width), channels_last)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, rois, *_ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(rois, output[1])
    ctx.arguments = (*input.shape, is_channels_last(input))


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    rois, argmax = ctx.saved_tensors
    deterministic = torch.are_deterministic_algorithms_enabled()
    return torch.ops.rcnnkit.roi_pool_backward(grad, rois, argmax, *ctx.arguments, deterministic), *(None,) * 5


torch.library.register_autograd("rcnnkit::roi_pool", _backward, setup_context=_setup)
torch.library.register_autograd("rcnnkit::roi_pool_backward", no_second_gradient("roi_pool"))
