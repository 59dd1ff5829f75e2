"""The resize of `Preprocessing` as tensor operations that every format has, equal to OpenCV's to the last bit.

It has to be exact in runtimes that have no float64 and divide in float32 by a reciprocal, such as OpenVINO. So it
divides whole numbers, multiplies by powers of two, and its numbers in float32 are whole and below 2²⁴.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnnkit.images import Preprocessing

ONE = 2048  # OpenCV's weights of 8-bit pixels are whole numbers of 11 bits
Side = Any  # an int, a SymInt, or while it is traced for ONNX a tensor without dimensions


def resized(preprocessing: Preprocessing, height: Side, width: Side) -> tuple[Side, Side]:
    """`Preprocessing.resized` of sizes that are known at run time only."""
    if isinstance(height, Tensor):
        sides = torch.stack([height, width])
        # Of one dimension each: torch's exporter takes numbers without any for float32.
        short, long = (pick(height, width).reshape(1) for pick in (torch.minimum, torch.maximum))
        wanted = torch.full_like(short, preprocessing.short_side) if preprocessing.short_side else short
        limit = torch.full_like(long, preprocessing.long_side)
        by_short = wanted * long - limit * short <= 0
        above, below = torch.where(by_short, wanted, limit), torch.where(by_short, short, long)
        new = _times(sides, above, below).clamp(min=1)
        return new[0], new[1]
    least, most = torch.sym_min(height, width), torch.sym_max(height, width)
    ratio = torch.sym_min((preprocessing.short_side or least) / least, preprocessing.long_side / most)
    return torch.sym_max(1, torch.sym_int(height * ratio)), torch.sym_max(1, torch.sym_int(width * ratio))


def _times(sides: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """⌊sides · (above / below)⌋ as float64 has it, by whole numbers of 32 bits.

    Only a product that is a whole number q can come out as q − 1: where the quotient is rounded down, by so much that
    the product is nearer to the number of float64 below q. With above / below brought into [1, 2), the quotient is a
    multiple of 2⁻⁵², and what rounding takes from it is `rest` · 2⁻⁵² / below.
    """
    whole, part = _divided(sides * above, below)
    powers = 2 ** torch.arange(15, device=sides.device)
    up = torch.where(above * powers >= below, powers, powers[-1:]).amin(0, keepdim=True)
    scaled = below * torch.where(below * powers <= above, powers, 1).amax(0, keepdim=True)
    rest = above * up
    for bits in (0, 13, 13, 13, 13):
        _, rest = _divided(rest * 2**bits, scaled)
    rest = torch.where(2 * rest < scaled, rest, 0)  # 0: the quotient is rounded up
    power = torch.where(powers <= whole[:, None], powers, 1).amax(1)  # numbers of float64 are as far apart as this
    power_of_two = (whole == power).long()  # and half as far below it
    less = (part == 0) & (2 * (1 + power_of_two) * sides * rest - below * up * power > 0)
    return whole - less.long()


def _divided(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of whole numbers ≥ 0; some runtimes divide by float32, which misses large ones by 1."""
    whole = above.div(below, rounding_mode="trunc")
    part = above - whole * below
    off = (part >= below).long() - (part < 0).long()
    return whole + off, part - off * below


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
    left, right, first, second = _taps(width, new_width, pixels, inside=True)
    values = pixels.float()
    values = ((values[..., left] * first + values[..., right] * second) * 2.0**-4).floor()
    upper, lower, first, second = _taps(height, new_height, pixels, inside=False)
    values = _weighed(values[:, :, upper], first[:, None]) + _weighed(values[:, :, lower], second[:, None])
    return ((values + 2) * 2.0**-2).floor()


def _weighed(values: Tensor, weights: Tensor) -> Tensor:
    """⌊values · weights / 2¹⁶⌋ of whole numbers below 2¹⁵ and 2¹², in steps whose numbers are below 2²⁴."""
    high = (values * 2.0**-5).floor()
    low = values - 32 * high
    return ((high * weights + (low * weights * 2.0**-5).floor()) * 2.0**-11).floor()


def _taps(side: Side, new: Side, pixels: Tensor, inside: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of `new` cells the two of `side` that it lies between, and their weights, whole numbers in float32.

    Args:
        inside: cells beyond the first and the last one count as those, which OpenCV does along rows alone.
    """
    number = torch.arange(new, device=pixels.device)
    # A cell's place is (number + ½) · side / new − ½, rounded to float32. One is added, so that it is not negative.
    cell, part = _divided((2 * number + 1) * side + new, torch.zeros_like(number) + 2 * new)
    share = torch.zeros_like(number, dtype=torch.float32)
    for more, bits in ((11, 11), (12, 23)):
        digits, part = _divided(part * 2**more, torch.zeros_like(number) + 2 * new)
        share = share + digits * 2.0**-bits
    share = share + (part > 0) * 2.0**-24  # for what follows, so that the sum is rounded to the right side
    place = (cell - 1).float() + share
    floor = place.floor()
    share = place - floor
    if inside:
        share = torch.where((floor < 0) | (floor >= side - 1), 0.0, share)
    weights = [((1 - share) * ONE).round(), (share * ONE).round()]
    first, second = (torch.minimum((floor.long() + i).clamp(min=0), _last(side, floor)) for i in (0, 1))
    return first, second, weights[0], weights[1]


def _last(side: Side, like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.int64) + (side - 1)
