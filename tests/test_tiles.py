"""Tiles cover a picture, overlap as asked, and show the objects in them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rcnnkit.images import Preprocessing
from rcnnkit.structures import Proposals, Size, Targets
from rcnnkit.tiles import View, ViewSettings, proposals_in, targets_in, training_part

SIZES: list[Size] = [(1, 1), (64, 64), (64, 65), (65, 64), (100, 300), (257, 200), (40, 500)]


@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 60), (64, 16), (7, 3)])
@pytest.mark.parametrize("size", SIZES)
def test_every_pixel_is_covered_and_neighbours_overlap(size: Size, tile: int, overlap: int) -> None:
    settings = ViewSettings(tile=tile, tile_overlap=overlap)
    parts = settings.parts(size)
    seen = np.zeros(size, dtype=int)
    for x1, y1, x2, y2 in parts:
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]
        assert (y2 - y1, x2 - x1) == settings.part_size(size) == (min(size[0], tile), min(size[1], tile))
        seen[y1:y2, x1:x2] += 1
    assert seen.min() == 1 or overlap  # without an overlap asked for, some pixel is seen once
    assert seen.min() > 0
    for axis in (0, 1):
        starts = sorted({part[axis] for part in parts})
        ends = [start + min(size[1 - axis], tile) for start in starts]
        assert all(end - following >= overlap for end, following in zip(ends, starts[1:], strict=False))
    assert len(set(parts)) == len(parts) == settings.parts_of_each(np.array([size]))[0]


def test_there_are_no_more_tiles_than_needed() -> None:
    settings = ViewSettings(tile=10, tile_overlap=4)
    for length in range(1, 60):
        fewest = 1  # by definition: tiles of 10 with steps of 6 reach 10, 16, 22, …
        while 10 + 6 * (fewest - 1) < length:
            fewest += 1
        assert len(settings.parts((5, length))) == fewest


def test_a_picture_without_tiles_is_one_part() -> None:
    assert ViewSettings().parts((300, 200)) == [(0, 0, 200, 300)]
    assert ViewSettings().parts_of_each(np.array([[300, 200], [1, 1]])).tolist() == [1, 1]
    assert not ViewSettings().has_views
    assert ViewSettings(tile=300).looks_once((300, 200))
    assert not ViewSettings(tile=299).looks_once((300, 200))
    assert not ViewSettings(test_flip=True).looks_once((1, 1))


def test_views_are_all_combinations() -> None:
    settings = ViewSettings(tile=10, tile_overlap=0, tile_whole=True, test_flip=True, test_scales=(0.5, 2))
    views = list(settings.views((10, 20)))
    parts, whole = [(0, 0, 10, 10), (10, 0, 20, 10)], [(0, 0, 20, 10)]
    assert views == [
        [View(part, flip, factor) for part in group for flip in (False, True)]
        for group in (parts, whole)
        for factor in (0.5, 2)
    ]
    assert list(settings.views((10, 10))) == [
        [View((0, 0, 10, 10), flip, factor) for flip in (False, True)] for factor in (0.5, 2)
    ]
    assert settings.once() == ViewSettings(tile_overlap=0)


def test_bad_tiles_are_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"tile_overlap = 128 is not less than tile = 128, .* set tile_overlap to 25"
    ):
        ViewSettings(tile=128)
    with pytest.raises(ValidationError):
        ViewSettings(tile=-1)
    with pytest.raises(ValidationError):
        ViewSettings(merge_threshold=0)
    ViewSettings(tile=128, tile_overlap=25)


def test_what_a_network_sees_of_an_object_is_that_of_its_tile() -> None:
    rule = Preprocessing(short_side=400, long_side=800)
    assert rule.enlargement((4000, 4000)) == (0.1, 0.1)
    tiled = rule.model_copy(update={"tile": 200, "tile_overlap": 0})
    assert tiled.enlargement((4000, 4000)) == (2, 2)
    assert tiled.enlargement((100, 100)) == (4, 4)  # no larger than a tile: as a picture is


def test_objects_in_a_part() -> None:
    part = (10, 20, 30, 60)
    boxes = torch.tensor(
        [
            [12.0, 25, 18, 35],  # inside
            [0, 20, 20, 40],  # half of it: learnt from
            [0, 20, 19.9, 40],  # a little less
            [29.5, 30, 45, 40],  # a sliver
            [30, 20, 40, 30],  # beside it
            [0, 0, 100, 100],  # larger than the part
            [10, 20, 10.4, 20.4],  # tiny, but whole
            [5, 20, 15, 30],  # a crowd, half of it
        ]
    )
    crowd = torch.tensor([False] * 7 + [True])
    targets = Targets(boxes, torch.arange(8), crowd=crowd, areas=torch.full((8,), 7.0))
    found = targets_in(targets, part)
    assert found.labels.tolist() == [0, 1, 2, 5, 6, 7]
    expected = [[2, 5, 8, 15], [0, 0, 10, 20], [0, 0, 9.9, 20], [0, 0, 20, 40], [0, 0, 0.4, 0.4], [0, 0, 5, 10]]
    torch.testing.assert_close(found.boxes, torch.tensor(expected), atol=1e-5, rtol=0)
    assert found.crowd.tolist() == [False, False, True, True, False, True]
    assert found.truncated.tolist() == [False, True, True, True, False, True]
    assert len(targets_in(targets[:0], part)) == 0

    seen = proposals_in(Proposals(boxes, torch.arange(8).float()), part)
    assert seen.scores.tolist() == [0, 1, 6, 7]
    torch.testing.assert_close(seen.boxes, found.boxes[torch.tensor([0, 1, 4, 5])])


def test_objects_in_a_part_are_those_of_its_pixels() -> None:
    """Witness: every pixel of every object counted."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (200, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + rng.integers(1, 25, (200, 2))], axis=1)).float()
    part = (11, 7, 31, 39)
    found = targets_in(Targets(boxes, torch.arange(200)), part)
    expected = {}
    for label, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        mask = np.zeros((80, 80), bool)
        mask[y1:y2, x1:x2] = True
        inside = mask[part[1] : part[3], part[0] : part[2]]
        if inside.any():
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            expected[label] = (box, 2 * inside.sum() < mask.sum())
    assert found.labels.tolist() == list(expected)
    assert found.boxes.tolist() == [box for box, _ in expected.values()]
    assert found.crowd.tolist() == [mostly_cut for _, mostly_cut in expected.values()]


def test_training_parts_lie_in_the_picture_and_half_of_them_hold_an_object() -> None:
    settings = ViewSettings(tile=50, tile_overlap=0)
    rng = np.random.default_rng(0)
    boxes = torch.tensor([[900.0, 3.0, 910, 13]])
    holds = 0
    for _ in range(400):
        x1, y1, x2, y2 = training_part(settings, (700, 1000), boxes, rng)
        assert 0 <= x1 < x2 == x1 + 50 <= 1000
        assert 0 <= y1 < y2 == y1 + 50 <= 700
        holds += x1 <= 900 and x2 >= 910 and y1 <= 3 and y2 >= 13
    assert 160 < holds < 245  # others hold it with a probability below a hundredth
    x1, y1, x2, y2 = training_part(settings, (40, 1000), boxes[:0], rng)
    assert (y1, y2, x2 - x1) == (0, 40, 50)
    for _ in range(50):  # of an object that is larger than a tile, the tile shows nothing but the object
        x1, y1, x2, y2 = training_part(settings, (700, 1000), torch.tensor([[100.0, 100, 300, 300]]), _Around())
        assert 100 <= x1 < x2 <= 300
        assert 100 <= y1 < y2 <= 300


class _Around(np.random.Generator):
    """Draws a tile around an object."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64())

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return 0.0
