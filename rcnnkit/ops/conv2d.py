"""Convolutions for detecting on a CPU, with what comes after them: a residual that is added, and a ReLU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.ops.library import load

load()

LANES, PANEL, STEP = 16, 32, 32  # as in csrc/convolution/kernels.h


def conv2d_weights(weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights (O, C, h, w) as `conv2d` reads them, for maps of type `dtype`.

    Returns:
        (⌈O / 32⌉, C · h · w, 32) float32, or (⌈O / 32⌉, 16 ⌈C · h · w / 32⌉, 64) bfloat16.

    Raises:
        ValueError: O is no multiple of 16, or another type.
    """
    if weight.dim() != 4 or weight.shape[0] % LANES:
        raise ValueError(f"weights (O, C, h, w) with O a multiple of {LANES}, not {tuple(weight.shape)}")
    return panels_of(weight.to(dtype).permute(2, 3, 1, 0).flatten(0, 2), dtype)


def panels_of(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(…, K, O) in panels of 32 outputs, (…, ⌈O / 32⌉, K, 32). In bfloat16 zeros make K a multiple of 32, and 32 of K
    lie as tiles are loaded, (…, ⌈O / 32⌉, K / 32, 2, 16, 16, 2): for each of 16 outputs two neighbouring K."""
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"weights are made for maps of float32 or bfloat16, not {dtype}")
    panels = padded(weight.to(dtype), -1, PANEL).unflatten(-1, (-1, PANEL)).transpose(-2, -3)
    if dtype == torch.bfloat16:
        steps = padded(panels, -2, STEP).unflatten(-1, (2, 16)).unflatten(-3, (-1, 16, 2))
        panels = steps.movedim(-3, -1).movedim(-3, -4).flatten(-5).unflatten(-1, (-1, 2 * PANEL))
    return panels.contiguous()


def padded(tensor: Tensor, axis: int, multiple: int) -> Tensor:
    """With zeros at the end of an axis (counted from the last one, -1), up to a multiple; itself where it is one."""
    more = -tensor.shape[axis] % multiple
    return F.pad(tensor, (0, 0) * (-1 - axis) + (0, more)) if more else tensor


def multiplies_in_tiles() -> bool:
    """Whether `conv2d` has a matrix unit for bfloat16 here: Intel's AMX, which the system may refuse to a process."""
    found: bool = torch.ops.rcnnkit.has_tiles()
    return found


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    size: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """A convolution on the CPU, without a gradient. Sums are float32.

    Args:
        input: (B, C, H, W) float32 or bfloat16; not copied where it lies channels last.
        weight: of `conv2d_weights`, for the maps' type.
        bias: (O,) float32.
        size: height and width of the filters.
        stride, padding: of both axes.
        relu: what is below 0 becomes 0.
        residual: like the output, and added to it before the ReLU; not copied where it lies channels last.

    Returns:
        (B, O, (H + 2 padding - height) / stride + 1, likewise W) in the input's type, channels last.

    Raises:
        RuntimeError: shapes or types do not fit, or a gradient is asked for.
    """
    refuse_gradient("conv2d", input, weight, bias, residual)
    rows = torch.ops.rcnnkit.conv2d(
        channels_last(input), weight, bias, channels_last(residual), *size, stride, padding, relu
    )
    return rows.permute(0, 3, 1, 2)


def channels_last(maps: Tensor | None) -> Tensor | None:
    """(B, C, H, W) → (B, H, W, C), contiguous."""
    return None if maps is None else maps.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)


def refuse_gradient(name: str, *tensors: Tensor | None) -> None:
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors):
        raise RuntimeError(f"{name} has no gradient; detect under torch.no_grad(), or train with nn.Conv2d")


@torch.library.register_fake("rcnnkit::conv2d")
def _(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    height: int,
    width: int,
    stride: int,
    padding: int,
    relu: bool,
) -> Tensor:
    sides = [(i + 2 * padding - s) // stride + 1 for i, s in zip(input.shape[1:3], (height, width), strict=True)]
    return input.new_empty(input.shape[0], *sides, bias.shape[0])
