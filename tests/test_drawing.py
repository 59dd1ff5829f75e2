"""Detections drawn on a picture, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.drawing import class_colour, draw
from rcnnkit.structures import Detections

NAMES = tuple(f"class {i}" for i in range(30))


def found(*rows):
    """Detections from (box, score, label) rows."""
    return Detections(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.float32),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        NAMES,
    )


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)  # lines are 1 pixel wide at this size


def test_the_edge_has_the_colour_of_the_class_and_the_rest_is_untouched(picture):
    before = picture.copy()
    drawn = np.asarray(draw(picture, found(([100, 80, 180, 150], 0.9, 3))))
    # Continuous 100 … 180 covers the pixels 100 … 179.
    for edge in (drawn[149, 100:180], drawn[80:150, 100], drawn[80:150, 179]):
        assert (edge == class_colour(3)).all()
    # Outside, left of, right of and below box and label; and inside.
    changed = (drawn != before).any(axis=2)
    assert not changed[150:].any()
    assert not changed[:, :100].any()
    assert not changed[:, 180:].any()
    assert not changed[:50].any()
    assert not changed[81:149, 101:179].any()
    assert (drawn[79, 100:110] == class_colour(3)).all(axis=1).any()  # the label's plate, on the box
    np.testing.assert_array_equal(picture, before)  # the input is as it was


def test_no_detections_change_nothing(picture):
    np.testing.assert_array_equal(draw(picture, found()), picture)


def test_inputs_of_every_kind_are_left_alone(picture, tmp_path):
    detections = found(([100, 80, 180, 150], 0.9, 3))
    expected = np.asarray(draw(picture, detections))
    pil, tensor, file = (
        Image.fromarray(picture),
        torch.from_numpy(picture).permute(2, 0, 1),
        tmp_path / "a.png",
    )
    pil.save(file)
    stored = file.read_bytes()
    for each in (pil, tensor, file, str(file)):
        drawn = draw(each, detections)
        assert drawn.mode == "RGB"
        np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(pil, picture)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), picture)
    assert file.read_bytes() == stored


def test_a_grey_picture_gets_colours(picture):
    drawn = np.asarray(draw(Image.fromarray(picture[:, :, 0]), found(([100, 80, 180, 150], 0.9, 3))))
    assert (drawn[149, 100:180] == class_colour(3)).all()
    assert (drawn[160, 10] == picture[160, 10, 0]).all()


def test_weak_detections_are_left_out(picture):
    weak = found(([100, 80, 180, 150], 0.4, 3))
    np.testing.assert_array_equal(draw(picture, weak), picture)
    assert (np.asarray(draw(picture, weak, min_score=0.4)) != picture).any()
    margins = found(([100, 80, 180, 150], -3.0, 3))  # an R-CNN
    assert (np.asarray(draw(picture, margins, min_score=-math.inf)) != picture).any()


def test_the_best_lies_on_top_whatever_the_order_given(picture):
    rows = [([100, 80, 180, 150], 0.6, 1), ([100, 80, 180, 150], 0.9, 2)]
    for order in (rows, rows[::-1]):
        assert (np.asarray(draw(picture, found(*order)))[149, 100:180] == class_colour(2)).all()


def test_a_tiny_box_is_framed_from_outside(picture):
    drawn = np.asarray(draw(picture, found(([100, 80, 101, 81], 0.9, 3))))
    assert (drawn[80, 100] == picture[80, 100]).all()  # the object itself stays visible
    for y, x in ((80, 99), (80, 101), (81, 100)):
        assert (drawn[y, x] == class_colour(3)).all()


@pytest.mark.parametrize(
    "box",
    [[400, 80, 500, 150], [-50, -50, -10, -10], [100, 80, 90, 70], [100, 80, math.nan, 150]],
    ids=["right of it", "above it", "inverted", "nan"],
)
def test_a_box_that_cannot_be_shown_is_left_out(picture, box):
    np.testing.assert_array_equal(draw(picture, found((box, 0.9, 3))), picture)


@pytest.mark.parametrize("box", [[-40, -40, 340, 240], [-math.inf, -math.inf, math.inf, math.inf]])
def test_a_box_over_the_edge_is_cut(picture, box):
    drawn = np.asarray(draw(picture, found((box, 0.9, 3))))
    for edge in (drawn[-1], drawn[:, -1], drawn[60:, 0]):
        assert (edge == class_colour(3)).all()


@pytest.mark.parametrize("box", [[0, 0, 30, 30], [280, 0, 300, 30], [280, 190, 300, 200], [0, 100, 20, 200]])
def test_the_label_stays_inside(box):
    # On a black picture, the plate is all of one class's colour but for the text: it must have
    # its full width and height in every corner.
    black = np.zeros((200, 300, 3), dtype=np.uint8)

    def plate(where):
        with_label = np.asarray(draw(black, found((where, 0.9, 3)))).any(axis=2)
        return with_label.sum(axis=1).max(), with_label.sum(axis=0).max()

    width, _ = plate([100, 100, 120, 120])  # the label is wider than this box
    assert plate(box)[0] >= width


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (16, 16)])
def test_the_smallest_pictures_do_not_fail(size):
    drawn = draw(np.zeros((*size, 3), dtype=np.uint8), found(([0, 0, size[1], size[0]], 0.9, 3)))
    assert drawn.size == size[::-1]


def test_lines_grow_with_the_picture():
    black = np.zeros((1200, 1600, 3), dtype=np.uint8)
    row = np.asarray(draw(black, found(([400, 400, 1200, 1000], 0.9, 3))))[800]
    assert row.any(axis=1).sum() == 2 * 5  # two sides, 1600 / 320 pixels each


def test_colours_are_distinct_and_stable():
    colours = [class_colour(label) for label in range(21)]
    assert len(set(colours)) == 21
    assert class_colour(21) == colours[0]
    apart = [math.dist(a, b) for i, a in enumerate(colours[:7]) for b in colours[:i]]
    assert min(apart) > 60
