"""Max pooling for detecting on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnnkit.ops.conv2d import channels_last, refuse_gradient


def max_pool2d(input: Tensor, size: int, stride: int, padding: int = 0, ceil_mode: bool = False) -> Tensor:
    """`torch.nn.functional.max_pool2d` on the CPU, without a gradient.

    Args:
        input: (B, C, H, W) float32 or bfloat16, C a multiple of 16; not copied where it lies channels last.
        size, stride, padding: of both axes, cells.
        ceil_mode: a last window may be cut off, as long as it begins on the map or its padding on the left.

    Returns:
        (B, C, H', W') in the input's type, channels last.

    Raises:
        RuntimeError: shapes or types do not fit, or a gradient is asked for.
    """
    refuse_gradient("max_pool2d", input)

    rows = torch.ops.rcnnkit.max_pool2d(channels_last(input), size, stride, padding, ceil_mode)
    return rows.permute(0, 3, 1, 2)


@torch.library.register_fake("rcnnkit::max_pool2d")
def _(input: Tensor, size: int, stride: int, padding: int, ceil_mode: bool) -> Tensor:
    def count(side: int) -> int:
        steps = side + 2 * padding - size
        windows = (steps + stride - 1 if ceil_mode else steps) // stride + 1
        return windows - (ceil_mode and (windows - 1) * stride >= side + padding)

    return input.new_empty(input.shape[0], *map(count, input.shape[1:3]), input.shape[3])
