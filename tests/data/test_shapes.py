"""Boxes around shapes, against outlines that are drawn point by point."""

import math

import numpy as np
import pytest

from rcnnkit.data.shapes import around_ellipse, around_points, around_rectangle


def test_polygons() -> None:
    assert around_points([3, 1, 5.5], [2, 8, 4]) == (1, 2, 5.5, 8)
    with pytest.raises(ValueError, match=r"^a polygon with 2 corners; it needs three or more; draw it again"):
        around_points([1, 2], [3, 4])
    with pytest.raises(ValueError, match=r"^a polygon with 0 corners"):
        around_points([], [])
    with pytest.raises(ValueError, match=r"^a polygon with 3 xs and 2 ys; give each corner both"):
        around_points([1, 2, 3], [3, 4])


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 4, 1.9, math.pi / 2, -0.7])
def test_turned_shapes(angle: float) -> None:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    around = np.linspace(0, 2 * math.pi, 100_001)
    outline = turn @ np.stack([20 * np.cos(around), 7 * np.sin(around)]) + np.array([[30], [40]])
    np.testing.assert_allclose(
        around_ellipse(30, 40, 20, 7, angle), [*outline.min(axis=1), *outline.max(axis=1)], atol=1e-6
    )
    corners = np.array([[10, 50, 50, 10], [5, 5, 25, 25]], float)
    for pivot in ((10, 5), (30, 15)):
        turned = turn @ (corners - np.reshape(pivot, (2, 1))) + np.reshape(pivot, (2, 1))
        box = around_rectangle((10, 5, 50, 25), angle, pivot)
        np.testing.assert_allclose(box, [*turned.min(axis=1), *turned.max(axis=1)], atol=1e-9)


def test_a_quarter_turn_is_clockwise() -> None:
    # Around its upper left corner, a rectangle of 40 x 20 falls to the left and down.
    np.testing.assert_allclose(around_rectangle((10, 5, 50, 25), math.pi / 2, (10, 5)), (-10, 5, 10, 45), atol=1e-9)
