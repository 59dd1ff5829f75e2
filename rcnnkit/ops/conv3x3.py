"""3×3 convolutions with a quarter of the products (Lavin and Gray 2015, arXiv:1509.09308)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.ops.library import load

load()

LANES, PANEL = 16, 32  # as in csrc/winograd/kernels.h

# F(4×4, 3×3): what becomes of three weights (section 4.2).
WEIGHTS = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]]
WEIGHTS += [[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]


def winograd_weights(weight: Tensor) -> Tensor:
    """Weights (O, C, 3, 3) as `conv3x3` reads them: 36 coefficients, (36, ⌈O / 32⌉, C, 32) float32.

    Raises:
        ValueError: filters of another size, or C or O is no multiple of 16.
    """
    outputs, channels, *size = weight.shape
    if size != [3, 3] or outputs % LANES or channels % LANES:
        raise ValueError(f"weights (O, C, 3, 3) with O and C multiples of {LANES}, not {tuple(weight.shape)}")
    transform = torch.tensor(WEIGHTS, dtype=torch.float64, device=weight.device)
    coefficients = torch.einsum("ik,ockl,jl->ijco", transform, weight.double(), transform).flatten(0, 1)
    panels = F.pad(coefficients, (0, -outputs % PANEL)).unflatten(2, (-1, PANEL))
    return panels.transpose(1, 2).float().contiguous()


def conv3x3(input: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """A convolution of 3×3, stride 1 and padding 1 on the CPU, without a gradient.

    Products and sums are float32, whatever the type of the maps. They are other products than those of a
    convolution as it is written down, with errors a few times as large; and NaN or an infinity makes NaN of every
    tile of 4 × 4 outputs that looks at it.

    Args:
        input: (B, C, H, W) float32 or bfloat16; not copied where it lies channels last.
        weight: of `winograd_weights`.
        bias: (O,) float32.
        relu: what is below 0 becomes 0.

    Returns:
        (B, O, H, W) in the input's type, channels last.

    Raises:
        RuntimeError: shapes or types do not fit, or a gradient is asked for.
    """
    if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad or bias.requires_grad):
        raise RuntimeError("conv3x3 has no gradient; detect under torch.no_grad(), or train with nn.Conv2d")
    rows = input.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return torch.ops.rcnnkit.conv3x3(rows, weight, bias, relu).permute(0, 3, 1, 2)


@torch.library.register_fake("rcnnkit::conv3x3")
def _(input: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    return input.new_empty(*input.shape[:3], bias.shape[0])
