"""Sizes and pixels of the traced resize, against the detector's own: OpenCV's to the last bit."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from rcnnkit.exporting.resizing import _taps, _weighed, resize, resized
from rcnnkit.images import Preprocessing

SIZES = [(1, 1), (3, 200), (97, 61), (120, 160), (200, 300), (211, 300), (480, 333), (50, 49)]
RULES = [(800, 1333), (600, 1000), (96, 160), (0, 150), (1024, 1024), (512, 2048)]


@pytest.mark.parametrize(("short", "long"), [(96, 160), (60, 1000), (200, 333), (0, 150)])
def test_it_resizes_as_the_detector(short: int, long: int) -> None:
    rule = Preprocessing(short_side=short, long_side=long)
    for height, width in SIZES:
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = rule.resize(picture).permute(1, 2, 0).numpy()
        traced = resize(torch.from_numpy(picture).permute(2, 0, 1)[None], rule)[0].permute(1, 2, 0)
        assert np.array_equal(traced.numpy(), wanted), (height, width)


def test_a_wide_picture() -> None:
    """Its places between cells have few digits left in float32."""
    picture = np.random.default_rng(0).integers(0, 256, (3, 20_011, 3), dtype=np.uint8)
    rule = Preprocessing(short_side=0, long_side=1333)
    traced = resize(torch.from_numpy(picture).permute(2, 0, 1)[None], rule)[0].permute(1, 2, 0)
    assert np.array_equal(traced.numpy(), cv2.resize(picture, (1333, 1), interpolation=cv2.INTER_LINEAR))


def test_sizes_are_rounded_down_as_python_does() -> None:
    """Also where Python's float64 makes a pixel less of a quotient that is a whole number."""
    less = 0
    for short, long in RULES:
        rule = Preprocessing(short_side=short, long_side=long)
        for side in range(1, 1200, 37):
            for other in (side, side + 7, 2 * side, 4 * side // 3, 3 * side // 2, 20_000):
                sides = torch.tensor(side), torch.tensor(max(1, other))
                wanted = rule.resized((side, max(1, other)))
                assert tuple(map(int, resized(rule, *sides))) == wanted, (rule, sides)
                less += short > 0 and min(wanted) == short - 1
    assert less > 5


def test_no_number_is_too_large_for_float32() -> None:
    """The largest values and weights, in float32 as in whole numbers of 64 bits."""
    values = torch.arange(32_760).repeat_interleave(3)
    for weight in (0, 1, 1023, 1024, 2047, 2048):
        assert _weighed(values.float(), torch.tensor(float(weight))).long().equal(values * weight >> 16)


def test_places_are_those_of_float64() -> None:
    for side, new in itertools.product((1, 2, 4, 12, 61, 640, 4999), (1, 3, 64, 512, 800, 1059, 1333, 1487)):
        place = ((torch.arange(new, dtype=torch.float64) + 0.5) * (1 / (new / side)) - 0.5).float()
        share = place - place.floor()
        left, right, first, second = _taps(side, new, torch.zeros(1), inside=False)
        assert left.equal(place.floor().long().clamp(0, side - 1))
        assert right.equal((place.floor().long() + 1).clamp(0, side - 1))
        assert first.equal(((1 - share) * 2048).round())
        assert second.equal((share * 2048).round())


def test_pillows_rule_has_no_format() -> None:
    rule = Preprocessing(short_side=50, long_side=80, resizing="detectron2")
    with pytest.raises(ValueError, match="export without preprocessing"):
        resize(torch.zeros(1, 3, 97, 120, dtype=torch.uint8), rule)
