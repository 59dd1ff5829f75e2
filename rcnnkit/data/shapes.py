"""The upright box around a shape that was drawn. All numbers are continuous pixels, 0-based; angles turn clockwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcnnkit.data.checks import Box
from rcnnkit.text import count


def around_points(xs: Sequence[float], ys: Sequence[float], shape: str = "polygon") -> Box:
    """The box around a polygon.

    Raises:
        ValueError: it has fewer than three corners, or not as many ys as xs.
    """
    if len(xs) != len(ys):
        raise ValueError(f"a {shape} with {count(len(xs), 'x')} and {count(len(ys), 'y')}; give each corner both")
    if len(xs) < 3:
        raise ValueError(
            f"a {shape} with {count(len(xs), 'corner')}; it needs three or more; draw it again, or delete it"
        )
    return min(xs), min(ys), max(xs), max(ys)


def around_ellipse(x: float, y: float, radius_x: float, radius_y: float, angle: float = 0.0) -> Box:
    """The box around an ellipse.

    Args:
        x, y: its centre.
        radius_x, radius_y: before it is turned.
        angle: in radians, by which it is turned around its centre.
    """
    width = math.hypot(radius_x * math.cos(angle), radius_y * math.sin(angle))
    height = math.hypot(radius_x * math.sin(angle), radius_y * math.cos(angle))
    return x - width, y - height, x + width, y + height


def around_rectangle(box: Box, angle: float, pivot: tuple[float, float]) -> Box:
    """The box around a rectangle that is turned by `angle`, in radians, around the point `pivot`."""
    x1, y1, x2, y2 = box
    cos, sin = math.cos(angle), math.sin(angle)
    away = [(x - pivot[0], y - pivot[1]) for x in (x1, x2) for y in (y1, y2)]
    xs = [pivot[0] + x * cos - y * sin for x, y in away]
    ys = [pivot[1] + x * sin + y * cos for x, y in away]
    return min(xs), min(ys), max(xs), max(ys)
