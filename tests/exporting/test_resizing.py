"""Sizes and pixels of the traced resize and of detect.py's, against the detector's own: OpenCV's to the last bit."""

import numpy as np
import pytest
import torch

from rcnnkit.exporting import detect
from rcnnkit.exporting.resizing import resize, resized
from rcnnkit.images import Preprocessing

SIZES = [(1, 1), (3, 200), (97, 61), (120, 160), (200, 300), (211, 300), (480, 333), (50, 49)]


@pytest.mark.parametrize(("short", "long"), [(96, 160), (60, 1000), (200, 333), (0, 150)])
def test_both_resize_as_the_detector(short: int, long: int) -> None:
    rule = Preprocessing(short_side=short, long_side=long)
    for height, width in SIZES:
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = rule.resize(picture).permute(1, 2, 0).numpy()
        assert np.array_equal(detect.resize(picture, rule.model_dump(mode="json")), wanted), (height, width)
        traced = resize(torch.from_numpy(picture).permute(2, 0, 1)[None], rule)[0].permute(1, 2, 0)
        assert np.array_equal(traced.numpy(), wanted), (height, width)


def test_sizes_are_rounded_down_as_python_does() -> None:
    rule = Preprocessing(short_side=800, long_side=1333)
    below = 0
    for side in range(1, 2000):
        sides = torch.tensor(side), torch.tensor(side + 7)
        assert tuple(map(int, resized(rule, *sides))) == rule.resized((side, side + 7)), side
        below += rule.resized((side, side + 7))[0] == 799
    assert below > 0  # where the quotient was rounded down


def test_pillows_rule_is_detectpys_and_no_formats() -> None:
    rule = Preprocessing(short_side=50, long_side=80, resizing="detectron2")
    picture = np.random.default_rng(0).integers(0, 256, (97, 120, 3), dtype=np.uint8)
    wanted = rule.resize(picture).permute(1, 2, 0).numpy()
    assert np.array_equal(detect.resize(picture, rule.model_dump(mode="json")), wanted)
    with pytest.raises(ValueError, match="export without preprocessing"):
        resize(torch.zeros(1, 3, 97, 120, dtype=torch.uint8), rule)
