import numpy as np
import pytest
import torch

from rcnnkit.checking.network import check_numbers, check_sizes, input_sides, limits
from rcnnkit.checking.objects import Objects
from rcnnkit.data.sizes import input_sides as sides_of_records
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from tests.checking.sets import data_set

SETTINGS = DetectorSettings()


def test_sides_are_those_of_each_picture() -> None:
    random = np.random.default_rng(0)
    pictures = [[((x, y, x + 20, y + 10), 0) for x, y in random.uniform(0, 80, (5, 2))] for _ in range(4)]
    data = data_set(pictures)
    found = input_sides(Objects.of(data), SETTINGS)
    torch.testing.assert_close(found, sides_of_records(data, SETTINGS.input, use_difficult=True))
    assert input_sides(Objects.of(data_set([])), SETTINGS).shape == (0, 2)


@pytest.mark.parametrize("kind", ["faster_rcnn", "fast_rcnn", "rcnn"])
def test_limits_are_those_of_the_detector(kind: str) -> None:
    settings = DetectorSettings.model_validate({"model": {"kind": kind, "backbone": "resnet18", "fpn_channels": 16}})
    for training in (False, True):
        detector = build(settings, ["cat"])
        assert isinstance(detector, Detector)
        assert limits(settings, training) == detector.limits(training)
    assert limits(DetectorSettings.model_validate({"model": {"kind": "classifier"}}), True) == []


def test_pretrained_weights_are_not_fetched_for_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    assert limits(DetectorSettings.model_validate({"model": {"pretrained": True}}), False)


def test_objects_that_no_anchor_reaches_and_what_would() -> None:
    long = [((0, 10, 190, 12), 0)]  # 95 times as wide as high
    square = [((50, 50, 82, 82), 0)]  # at 8 times its size an anchor of 256
    (found,) = check_sizes(Objects.of(data_set([long] * 4 + [square] * 6)), SETTINGS, "train", True)
    assert (found.kind.name, found.kind.severity, found.file, found.box) == (
        "unreached-by-anchors",
        "warning",
        "p0.jpg",
        (0, 10, 190, 12),
    )
    assert found.message.startswith(
        "40% of 10 objects are reached by no anchor with an IoU of 0.5 at the network's input;"
    )
    assert "this one is 1266 × 13 pixels there" in found.message
    assert list(check_sizes(Objects.of(data_set([square])), SETTINGS, "train", True)) == []
    assert list(check_sizes(Objects.of(data_set([long])), SETTINGS, "val", False)) == []
    assert list(check_sizes(Objects.of(data_set([])), SETTINGS, "train", True)) == []


def test_another_input_size_is_named_where_it_suits_the_anchors() -> None:
    small = [((50, 50, 51.5, 51.5), 0)]  # 10 pixels at the input
    (found,) = check_sizes(Objects.of(data_set([small] * 3, size=(120, 120))), SETTINGS, "train", True)
    assert "100% of 3 objects are reached by no anchor" in found.message
    assert "or with these anchors input.short_side = 2400 and input.long_side = 3999 reach" in found.message


def test_objects_below_a_cell() -> None:
    tiny, large = ((50, 50, 50.4, 50.4), 0), ((50, 50, 82, 82), 0)
    found = next(check_sizes(Objects.of(data_set([[tiny], *[[large]] * 30])), SETTINGS, "val", False))
    assert (found.kind.name, found.kind.severity, found.where) == ("tiny-objects", "note", "object 0 (cat)")
    assert found.message == (
        "objects below 4 × 4 pixels at the network's input (input.short_side = 800): 1 of 31; this is the smallest:"
        " x1 50, y1 50, x2 50.4, y2 50.4"
    )
    found = next(check_sizes(Objects.of(data_set([[tiny]] * 10 + [[large]] * 9)), SETTINGS, "val", False))
    assert found.kind.severity == "warning"


def test_tiles_are_named_where_they_show_more() -> None:
    """A picture of 4,000 × 8,000 is shrunk to 666 × 1,333: an object of 20 pixels has 3.3."""
    small, speck, large = ((50, 50, 70, 70), 0), ((50, 50, 52, 52), 0), ((50, 50, 250, 250), 0)
    objects = Objects.of(data_set([[small, speck, large]], size=(4000, 8000)))
    found = next(check_sizes(objects, SETTINGS, "val", False))
    assert "objects below 4 × 4 pixels at the network's input (input.short_side = 800): 2 of 3;" in found.message
    tiles = "; input.tile = 800 shows the pictures as large as they are, where 1 are below that"
    assert found.message.endswith(tiles)
    tiled = SETTINGS.with_input({"tile": 800})
    found = next(check_sizes(objects, tiled, "val", False))
    assert "(input.short_side = 800): 1 of 3;" in found.message
    assert "input.tile" not in found.message
    coarse = SETTINGS.with_input({"short_side": 100, "long_side": 200})
    found = next(check_sizes(objects, coarse, "val", False))
    assert "input.tile = 100 with input.tile_overlap = 20 shows" in found.message
    SETTINGS.with_input({"short_side": 100, "tile": 100, "tile_overlap": 20})  # which is what it says


def test_limits_hold_for_each_tile() -> None:
    grid = [((x * 10.0, y * 10.0, x * 10.0 + 9, y * 10.0 + 9), 0) for x in range(40) for y in range(10)]
    objects = Objects.of(data_set([grid], size=(100, 400)))
    assert [each.kind.name for each in check_numbers(objects, SETTINGS, "val", False)] == ["too-many-objects"]
    for tile, number in ((100, 0), (200, 1)):  # 100 objects in a tile, and 200
        tiled = SETTINGS.with_input({"tile": tile, "tile_overlap": 0})
        assert len(list(check_numbers(objects, tiled, "val", False))) == number


def test_more_objects_than_a_setting_lets_through() -> None:
    grid = [((x * 10.0, y * 10.0, x * 10.0 + 9, y * 10.0 + 9), x % 2) for x in range(20) for y in range(10)]
    objects = Objects.of(data_set([grid[:100], grid[:101], grid]))
    found = list(check_numbers(objects, SETTINGS, "train", True))
    assert [(each.file, each.message) for each in found] == [
        ("p1.jpg", "it holds 101 objects, more than head.max_detections = 100"),
        ("p2.jpg", "it holds 200 objects, more than head.max_detections = 100"),
    ]
    of_class = DetectorSettings.model_validate({"model": {"kind": "rcnn"}, "rcnn": {"max_detections": 99}})
    found = list(check_numbers(objects, of_class, "val", False))
    assert [each.message for each in found] == ["it holds 200 objects, more than rcnn.max_detections = 99"]


def test_objects_that_suppression_takes_for_one() -> None:
    one, other = ((10, 10, 60, 60), 0), ((10, 10, 60, 50), 0)
    (found,) = check_numbers(Objects.of(data_set([[one, other]])), SETTINGS, "train", True)
    assert (found.kind.name, found.kind.severity, found.where) == ("crowded-objects", "note", "object 1 (cat)")
    assert found.message == (
        "objects that overlap another of their class by an IoU above head.nms_iou = 0.5, so that one of the two is not"
        " found: 1 of 2; this one overlaps the most, by 0.80"
    )
    (found,) = check_numbers(Objects.of(data_set([[one, other]] * 10)), SETTINGS, "train", True)
    assert found.kind.severity == "warning"
    for pictures in ([[one, one]], [[one, (other[0], 1)]]):  # which is said otherwise, and which is kept
        assert list(check_numbers(Objects.of(data_set(pictures)), SETTINGS, "train", True)) == []
