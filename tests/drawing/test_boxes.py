"""Detections and proposals drawn on a picture, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.boxes import iou
from rcnnkit.drawing import canvas, class_colour, draw, draw_proposals
from rcnnkit.structures import Detections, Proposals, Targets

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


def test_a_name_of_several_lines_is_written_in_one(picture):
    rows = torch.tensor([[100.0, 80, 180, 150]]), torch.tensor([0.9]), torch.tensor([0])
    one, other = (np.asarray(draw(picture, Detections(*rows, (name,)))) for name in ("red\n cell", "red cell"))
    np.testing.assert_array_equal(one, other)


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


Plates = list[tuple[int, int, int, int]]


@pytest.fixture
def plates(monkeypatch) -> Plates:
    """Where the plates of texts are drawn, (left, top, right, bottom), the last one on top."""
    places: Plates = []
    drawn = canvas._Plate.draw

    def noted(plate, pencil, corner, colour):
        places.append((*corner, corner[0] + plate.width, corner[1] + plate.height))
        drawn(plate, pencil, corner, colour)

    monkeypatch.setattr(canvas._Plate, "draw", noted)
    return places


def overlapping(places: Plates) -> list[tuple[int, int]]:
    boxes = torch.tensor(places, dtype=torch.float32)
    return [(i, j) for i, j in (iou(boxes, boxes).triu(1) > 0).nonzero().tolist()]


def test_a_plate_moves_where_it_would_lie_over_a_better_one(picture, plates):
    alone = [[100, 80, 180, 150], [104, 84, 184, 152], [102, 82, 182, 151], [90, 82, 170, 148]]
    draw(picture, found(*((box, 0.9 - 0.1 * rank, rank) for rank, box in enumerate(alone))))
    *others, best = plates
    assert best[::3] == (100, 80)  # above its box, as ever
    assert overlapping(plates) == []
    for (left, top, right, bottom), box in zip(reversed(others), alone[1:], strict=True):
        assert left < box[2]
        assert right > box[0]
        height = bottom - top
        assert box[1] - 2 * height <= top  # it still lies at its own box
        assert bottom <= box[3] + 2 * height


def test_long_phrases_stand_one_below_the_other(plates):
    rows = torch.tensor([[20.0, 70, 60, 90], [30, 70, 66, 92], [70, 66, 90, 95]])
    phrases = tuple(f"a large {colour} three left of a small cup" for colour in ("red", "blue", "green"))
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    draw(np.zeros((160, 160, 3), np.uint8), Detections(rows, scores, labels, ("region",), phrases=phrases))
    assert len(plates) == 3
    assert overlapping(plates) == []


def test_without_room_plates_lie_over_one_another(plates):
    box = [0, 0, 30, 14]
    draw(np.zeros((14, 30, 3), np.uint8), found((box, 0.9, 1), (box, 0.8, 2)))
    assert plates[0] == plates[1]


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


def proposals(*boxes):
    """Best first."""
    return Proposals(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), -torch.arange(len(boxes)).float())


def test_the_best_proposals_have_thin_frames_and_the_best_one_lies_on_top(picture):
    before = picture.copy()
    found = proposals([100, 80, 180, 150], [100, 80, 200, 150], [20, 20, 60, 60])
    drawn = np.asarray(draw_proposals(picture, found, count=2))
    assert (drawn[80, 100:180] == class_colour(0)).all()  # the second has this edge too
    assert (drawn[80, 180:200] == class_colour(1)).all()
    assert (drawn[149, 100:180] == class_colour(0)).all()
    changed = (drawn != before).any(axis=2)
    assert not changed[81:149, 101:179].any()
    assert not changed[:70, :70].any()  # the third is left out
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(draw_proposals(picture, proposals()), picture)
    np.testing.assert_array_equal(draw_proposals(picture, found, count=0), picture)


def test_the_proposal_that_covers_an_object_best(picture):
    rows = [[100, 80, 180, 150], [20, 120, 60, 160], [0, 0, 10, 10]]
    objects = Targets(
        torch.tensor(rows, dtype=torch.float32),
        torch.zeros(3, dtype=torch.int64),
        difficult=torch.tensor([False, False, True]),
    )
    # Of the first object 6/8, then 7/8; of the second half, which is not above 0.5.
    found = proposals([100, 80, 160, 150], [100, 80, 170, 150], [20, 120, 40, 160])
    drawn = np.asarray(draw_proposals(picture, found, targets=objects))
    green, vermilion = (0, 158, 115), (213, 94, 0)
    assert (drawn[80:150, 168] == green).all()  # 2 pixels wide: 168 and 169
    assert (drawn[80:150, 179] == 255).all()
    assert (drawn[120:160, 38] == vermilion).all()
    assert (drawn[80:150, 159] == picture[80:150, 159]).all(axis=1).sum() > 60  # the first proposal is not the best
    assert (drawn[5, 5] == picture[5, 5]).all()  # the difficult object
    first = np.asarray(draw_proposals(picture, found, count=1, targets=objects))
    assert (first[80:150, 158] == green).all()
    assert (first[120:160, 59] == 255).all()  # nothing overlaps the second object: its own frame alone,
    assert (first[100:120, 20:40] == vermilion).all(axis=2).any()  # and 0.00 on a plate
    assert not (first[120:160, 38] == vermilion).all()


def test_objects_without_any_proposals(picture):
    objects = Targets(torch.tensor([[100.0, 80, 180, 150]]), torch.zeros(1, dtype=torch.int64))
    drawn = np.asarray(draw_proposals(picture, proposals(), targets=objects))
    assert (drawn[149, 100:180] == 255).all()
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    np.testing.assert_array_equal(draw_proposals(picture, proposals([0, 0, 9, 9]), targets=nothing), picture)
