"""RoIAlign (Mask R-CNN, arXiv:1703.06870, section 3), also with a gradient to its boxes (arXiv:1506.02025, eq. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rcnnkit.ops.library import load, miss_cuda
from rcnnkit.ops.regions import as_rois, empty_gradient, is_channels_last, no_second_gradient, pair, with_torchvision

HAS_CUDA = load()


def roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The mean of bilinear samples in each bin of each region; differentiable in `input` and in `boxes`.

    Samples up to one cell outside the map take its border, those beyond count as zero; so a region with a
    coordinate that is not finite gives zeros.

    Boxes have a gradient only if they ask for it (`requires_grad`): that of each sample's position (spatial transformer
    networks, arXiv:1506.02025, equation 7). On a cell's centre, where it jumps, it is the one towards higher
    positions, as of torch's `grid_sample`; where the border continues it is 0. The number of samples counts as fixed.

    Args:
        input: (B, C, H, W) float32, float64, float16 or bfloat16, with any strides.
        boxes: (R, 5) rows (picture, x1, y1, x2, y2), or one (N, 4) xyxy for each picture; pixels of a picture
            that is `1 / spatial_scale` times as large as the map. They may be float32 beside a half-precision
            input, where their own precision would be off by pixels.
        output_size: (rows, columns), or one number for both.
        spatial_scale: cells per pixel.
        sampling_ratio: samples per bin and axis; 0 or less takes as many as the bin has cells, rounded up.
        aligned: shift by half a cell, so that a cell's value is at its centre. Without it, regions are made at
            least one cell large.

    Returns:
        (R, C, rows, columns) in the input's dtype, contiguous. Sums are made in float32, in float64 for float64.

    Raises:
        ValueError: a shape, a device or the sampling ratio is wrong.
        RuntimeError: a picture that the batch has not (on CUDA such a region gives zeros), or boxes that ask for a
            gradient on a GPU without rcnnkit's CUDA operators.
    """
    rois, (rows, columns) = as_rois(input, boxes), pair(output_size)
    if sampling_ratio > 65536:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; it must be 65536 or less")
    if input.is_cuda and not HAS_CUDA:
        miss_cuda()
        if torch.is_grad_enabled() and rois.requires_grad:
            raise RuntimeError(
                "boxes ask for a gradient, which torchvision's roi_align has not; install rcnnkit again with"
                " RCNNKIT_CUDA=ON in the environment, or pass boxes.detach()"
            )
        return with_torchvision("roi_align", input, rois, (rows, columns), spatial_scale, sampling_ratio, aligned)
    return torch.ops.rcnnkit.roi_align(input, rois, spatial_scale, rows, columns, sampling_ratio, aligned)


@torch.library.register_fake("rcnnkit::roi_align")
def _(
    input: Tensor, rois: Tensor, spatial_scale: float, rows: int, columns: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    return input.new_empty(rois.shape[0], input.shape[1], rows, columns)


@torch.library.register_fake("rcnnkit::roi_align_backward")
def _(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    batch: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
    deterministic: bool,
) -> Tensor:
    return empty_gradient(grad, (batch, channels, height, width), channels_last)


@torch.library.register_fake("rcnnkit::roi_align_backward_boxes")
def _(grad: Tensor, input: Tensor, rois: Tensor, spatial_scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    return torch.empty_like(rois, dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32)


@torch.library.register_fake("rcnnkit::roi_align_backward_both")
def _(
    grad: Tensor,
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    of_boxes = torch.empty_like(rois, dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32)
    return empty_gradient(grad, input.shape, channels_last), of_boxes


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, rois, spatial_scale, _, _, sampling_ratio, aligned = inputs
    # The map is kept only for boxes that ask: it is most of the memory.
    ctx.save_for_backward(rois, *([input] if ctx.needs_input_grad[1] else []))
    ctx.arguments = (spatial_scale, *input.shape, sampling_ratio, aligned, is_channels_last(input))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rois, *inputs = ctx.saved_tensors
    spatial_scale, *_, sampling_ratio, aligned, channels_last = ctx.arguments
    options = spatial_scale, sampling_ratio, aligned
    of_input = of_boxes = None
    if inputs and ctx.needs_input_grad[0] and not grad.is_cuda:
        of_input, of_boxes = torch.ops.rcnnkit.roi_align_backward_both(grad, *inputs, rois, *options, channels_last)
    else:
        if ctx.needs_input_grad[0]:
            deterministic = torch.are_deterministic_algorithms_enabled()
            of_input = torch.ops.rcnnkit.roi_align_backward(grad, rois, *ctx.arguments, deterministic)
        if inputs:
            of_boxes = torch.ops.rcnnkit.roi_align_backward_boxes(grad, *inputs, rois, *options)
    if of_boxes is not None:
        of_boxes = of_boxes.to(rois.dtype)
    return of_input, of_boxes, *(None,) * 5


torch.library.register_autograd("rcnnkit::roi_align", _backward, setup_context=_setup)
torch.library.register_autograd("rcnnkit::roi_align_backward", no_second_gradient("roi_align"))
torch.library.register_autograd("rcnnkit::roi_align_backward_boxes", no_second_gradient("roi_align"))
torch.library.register_autograd("rcnnkit::roi_align_backward_both", no_second_gradient("roi_align"))
