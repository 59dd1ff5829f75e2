"""The resize of `Preprocessing` as tensor operations that every format has, equal to OpenCV's to the last bit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.images import Preprocessing

ONE = 2048  # OpenCV's weights of 8-bit pixels are whole numbers of 11 bits
Side = Any  # an int, a SymInt, or while it is traced for ONNX a tensor without dimensions


def resized(preprocessing: Preprocessing, height: Side, width: Side) -> tuple[Side, Side]:
    """`Preprocessing.resized` of sizes that are known at run time only, in float64 as there."""
    if isinstance(height, Tensor):
        sides = torch.stack([height, width]).double()
        # Of one dimension each: torch's exporter takes numbers without any for float32.
        short, long = sides.min(0, keepdim=True).values, sides.max(0, keepdim=True).values
        wanted = torch.full_like(short, preprocessing.short_side) if preprocessing.short_side else short
        limit = torch.full_like(long, preprocessing.long_side)
        new = (sides * torch.minimum(wanted / short, limit / long)).floor().long().clamp(min=1)
        return new[0], new[1]
    least, most = torch.sym_min(height, width), torch.sym_max(height, width)
    ratio = torch.sym_min((preprocessing.short_side or least) / least, preprocessing.long_side / most)
    return torch.sym_max(1, torch.sym_int(height * ratio)), torch.sym_max(1, torch.sym_int(width * ratio))


def resize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(B, 3, H, W) uint8 → (B, 3, h, w) in 0 … 255, as `preprocessing.resize` does it before it normalises.

    Raises:
        ValueError: for a rule that is Pillow's.
    """
    height, width = pixels.shape[2:]
    new_height, new_width = resized(preprocessing, height, width)
    if preprocessing.resizing == "torchvision":  # resizing and normalising commute
        size = (new_height, new_width)
        return F.interpolate(pixels.float(), size=size, mode="bilinear")
    if preprocessing.resizing == "detectron2":
        raise ValueError(
            'input.resizing = "detectron2" is Pillow\'s filter, which no format has; export without preprocessing, and'
            " resize with Pillow"
        )
    values = pixels.int()
    left, right, first, second = _taps(width, new_width, pixels, inside=True)
    values = values[..., left] * first + values[..., right] * second
    values = values.div(16, rounding_mode="trunc")
    upper, lower, first, second = _taps(height, new_height, pixels, inside=False)
    values, other = values[:, :, upper] * first[:, None], values[:, :, lower] * second[:, None]
    values = values.div(2**16, rounding_mode="trunc") + other.div(2**16, rounding_mode="trunc") + 2
    return values.div(4, rounding_mode="trunc").float()


def _taps(side: Side, new: Side, pixels: Tensor, inside: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of `new` cells the two of `side` that it lies between, and their weights.

    Args:
        inside: cells beyond the first and the last one count as those, which OpenCV does along rows alone.
    """
    factor = new.reshape(1).double() / side.reshape(1).double() if isinstance(side, Tensor) else new / side
    place = ((torch.arange(new, dtype=torch.float64, device=pixels.device) + 0.5) * (1 / factor) - 0.5).float()
    cell = place.floor()
    share = place - cell
    if inside:
        share = torch.where((cell < 0) | (cell >= side - 1), 0.0, share)
    weights = [((1 - share) * ONE).round().int(), (share * ONE).round().int()]
    first, second = (torch.minimum((cell.long() + i).clamp(min=0), _last(side, cell)) for i in (0, 1))
    return first, second, weights[0], weights[1]


def _last(side: Side, like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.int64) + (side - 1)
