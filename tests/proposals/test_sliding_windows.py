import math

import pytest
import torch

from rcnnkit.boxes import iou
from rcnnkit.proposals.sliding_windows import sliding_windows


def test_worked_by_hand():
    found = sliding_windows((40, 100), [40], [1.0], 0.5)
    # 60 pixels of room in steps of at most 20: at 0, 20, 40, 60.
    assert found.boxes.tolist() == [[x, 0, x + 40, 40] for x in (0, 20, 40, 60)]
    assert found.scores.tolist() == pytest.approx([0.4] * 4)


def test_shapes_keep_the_area_and_stay_inside():
    size, sizes, ratios = (300, 400), [32, 100], [0.25, 1.0, 4.0]
    found = sliding_windows(size, sizes, ratios, 0.3)
    width, height = (found.boxes[:, 2:] - found.boxes[:, :2]).T
    kinds = {(round(w, 2), round(h, 2)) for w, h in zip(width.tolist(), height.tolist(), strict=True)}
    assert kinds == {(round(s / math.sqrt(r), 2), round(s * math.sqrt(r), 2)) for s in sizes for r in ratios}
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= torch.tensor([400, 300])).all()
    for w, h in kinds:
        of_kind = found.boxes[(width.sub(w).abs() < 0.01) & (height.sub(h).abs() < 0.01)]
        for axis, (side, room) in enumerate(((w, 400 - w), (h, 300 - h))):
            places = of_kind[:, axis].unique()
            assert (float(places[0]), float(places[-1])) == (0, pytest.approx(room, abs=0.01))  # from edge to edge
            assert float(places.diff().max()) <= 0.3 * side + 1e-3
            assert float(places.diff().min()) == pytest.approx(float(places.diff().max()), abs=1e-3)


def test_large_ones_come_first():
    found = sliding_windows((200, 200), [20, 80, 40], [1.0, 2.0], 0.5)
    assert (found.scores.diff() <= 1e-7).all()
    assert found.scores[0] == pytest.approx(80 * 80 / 200 / 200)


def test_no_object_of_a_window_s_shape_is_missed():
    # The worst place is half a step from the nearest windows both ways: (1 - 1/4)² of the area is shared.
    found = sliding_windows((256, 256), [64], [1.0], 0.5)
    corner = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 192
    best = iou(torch.cat([corner, corner + 64], dim=1), found.boxes).amax(dim=1)
    assert best.min() >= 0.75**2 / (2 - 0.75**2) - 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_a_picture_smaller_than_the_windows(size):
    found = sliding_windows(size, [128, 90], [0.5, 1.0, 2.0], 0.5)
    assert found.boxes.tolist() == [[0, 0, size[1], size[0]]]  # all are cut to the same one
    assert found.scores.tolist() == [1]


@pytest.mark.parametrize(
    ("sizes", "ratios", "stride", "words"),
    [
        ([0], [1], 0.5, "sizes = "),
        ([8], [], 0.5, "ratios = "),
        ([8], [1], 0, "stride = "),
        ([8], [1], math.nan, "stride"),
    ],
)
def test_settings_that_make_no_sense(sizes, ratios, stride, words):
    with pytest.raises(ValueError, match=words):
        sliding_windows((10, 10), sizes, ratios, stride)
