"""3×3 convolutions with a quarter of the products (Lavin and Gray 2015, arXiv:1509.09308)."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnnkit.ops.conv2d import LANES, PANEL, channels_last, panels_of, refuse_gradient

INNER, OUTER = 0.75, 1.5  # the points beside 0 and infinity; as in csrc/convolution/kernels.h, which says why these


def winograd_weights(weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights (O, C, 3, 3) as `conv3x3` reads them: 36 coefficients, for maps of type `dtype`.

    Returns:
        (36, ⌈O / 32⌉, C, 32) float32, or (36, ⌈O / 32⌉, 16 ⌈C / 32⌉, 64) bfloat16.

    Raises:
        ValueError: filters of another size, C or O is no multiple of 16, or another type.
    """
    outputs, channels, *size = weight.shape
    if size != [3, 3] or outputs % LANES or channels % LANES:
        raise ValueError(f"weights (O, C, 3, 3) with O and C multiples of {LANES}, not {tuple(weight.shape)}")
    once = torch.tensor(_evaluations(), dtype=torch.float64, device=weight.device)
    transform = torch.kron(once, once)  # (36, 9), of rows and columns
    parts = []
    for part in weight.split(PANEL):  # in float64 a part fits into the cache
        nine = part.detach().double().permute(2, 3, 1, 0).reshape(9, -1)
        parts.append(panels_of((transform @ nine).reshape(36, channels, -1), dtype))
    return torch.cat(parts, 1)


def _evaluations() -> list[list[float]]:
    """(6, 3): what three weights, as a polynomial, are at each of the six points (section 4.2), scaled so that the way
    back has no divisions."""
    inner, outer = INNER**2, OUTER**2
    rows = [[1 / (inner * outer), 0.0, 0.0]]
    for point, other in ((INNER, outer), (-INNER, outer), (OUTER, inner), (-OUTER, inner)):
        scale = 2 * point**2 * (point**2 - other)
        rows.append([1 / scale, point / scale, point**2 / scale])
    return [*rows, [0.0, 0.0, 1.0]]


def conv3x3(input: Tensor, weight: Tensor, bias: Tensor, relu: bool = False, residual: Tensor | None = None) -> Tensor:
    """A convolution of 3×3, stride 1 and padding 1 on the CPU, without a gradient.

    They are other products than those of a convolution as it is written down, of coefficients in the maps' type and
    summed in float32, with errors a few times as large; and NaN or an infinity makes NaN of every tile of 4 × 4
    outputs that looks at it.

    Args:
        input: (B, C, H, W) float32 or bfloat16; not copied where it lies channels last.
        weight: of `winograd_weights`, for the maps' type.
        bias: (O,) float32.
        relu: what is below 0 becomes 0.
        residual: like the output, and added to it before the ReLU; not copied where it lies channels last.

    Returns:
        (B, O, H, W) in the input's type, channels last.

    Raises:
        RuntimeError: shapes or types do not fit, or a gradient is asked for.
    """
    refuse_gradient("conv3x3", input, weight, bias, residual)
    rows = torch.ops.rcnnkit.conv3x3(channels_last(input), weight, bias, channels_last(residual), relu)
    return rows.permute(0, 3, 1, 2)


@torch.library.register_fake("rcnnkit::conv3x3")
def _(input: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return input.new_empty(*input.shape[:3], bias.shape[0])
