from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from rcnnkit.checking.boxes import check_boxes, doubles
from rcnnkit.checking.objects import OVERLAP, Objects
from tests.checking.sets import data_set

BOX = (10.0, 10.0, 60.0, 60.0)


def test_overlaps_are_those_of_torchvision() -> None:
    random = np.random.default_rng(0)
    pictures = []
    for number in (0, 1, 40, 2, 0, 30):
        corner = random.uniform(0, 50, (number, 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 50, (number, 2))], axis=1)
        pictures.append([(tuple(box), 0) for box in boxes.tolist()])
    objects = Objects.of(data_set(pictures))
    wanted = {}
    for picture in range(len(pictures)):
        places = np.flatnonzero(objects.pictures == picture)
        own = torch.from_numpy(objects.boxes[places])
        overlap = torchvision.ops.box_iou(own, own)
        for i, j in torch.nonzero(overlap.triu(1) >= OVERLAP).tolist():
            wanted[places[i], places[j]] = float(overlap[i, j])
    first, second, values = objects.overlaps
    found = dict(zip(zip(first, second, strict=True), values.tolist(), strict=True))
    assert len(found) > 20
    assert found == pytest.approx(wanted, abs=1e-6)


def test_doubles_leave_one_of_each() -> None:
    near = (10.0, 10.0, 60.0, 59.0)
    objects = Objects.of(data_set([[(BOX, 0), (BOX, 1)], [(BOX, 0), (near, 0), (BOX, 0), ((60, 10, 99, 60), 0)]]))
    assert doubles(objects) == [(2, 3), (2, 4)]


def test_objects_that_are_there_twice_are_named_with_their_numbers() -> None:
    near, alike = (10.0, 10.0, 60.0, 59.0), (10.0, 10.0, 60.0, 54.0)
    found = list(check_boxes(Objects.of(data_set([[(BOX, 0), (BOX, 0), (near, 0), (alike, 1)]])), "train"))
    assert [(each.kind.name, each.file, each.where, each.message) for each in found[:2]] == [
        (
            "object-twice",
            "p0.jpg",
            "object 1 (cat)",
            "its box, x1 10, y1 10, x2 60, y2 60, is the same as object 0 (cat)",
        ),
        (
            "object-twice",
            "p0.jpg",
            "object 2 (cat)",
            "its box, x1 10, y1 10, x2 60, y2 59, is nearly the same as x1 10, y1 10, x2 60, y2 60 of object 0 (cat)",
        ),
    ]
    assert len(found) == 2  # 0.88 and 0.9, and of another class


def test_two_classes_of_one_object_and_objects_alike() -> None:
    alike = (10.0, 10.0, 60.0, 54.0)
    found = list(check_boxes(Objects.of(data_set([[(BOX, 0), (BOX, 1), (alike, 0)]])), "train"))
    assert [(each.kind.name, each.kind.severity, each.where) for each in found] == [
        ("two-classes", "warning", "object 1 (dog)"),
        ("objects-alike", "note", "object 2 (cat)"),
    ]
    assert found[1].box == alike


def test_thin_boxes() -> None:
    objects = Objects.of(data_set([[((5, 5, 6, 50), 0), ((5, 5, 6.5, 50), 0)]]))
    (found,) = check_boxes(objects, "val")
    assert (found.kind.name, found.split, found.where) == ("thin-box", "val", "object 0 (cat)")
    assert found.message == "its box is 1 wide and 45 high: x1 5, y1 5, x2 6, y2 50"


@pytest.mark.parametrize(("number", "factor", "found"), [(60, 0.5, 1), (60, 1.0, 0), (40, 0.5, 0)])
def test_boxes_in_one_corner(number: int, factor: float, found: int) -> None:
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(number):
        x, y = random.uniform(0, (150, 60))
        pictures.append([((x * factor, y * factor, (x + 49) * factor, (y + 39) * factor), 0)])
    kinds = [each.kind.name for each in check_boxes(Objects.of(data_set(pictures)), "train")]
    assert kinds == ["boxes-in-one-corner"] * found


def test_no_objects_and_no_pictures() -> None:
    none: list[list[list[Any]]] = [[], [[]], [[], []]]
    for pictures in none:
        objects = Objects.of(data_set(pictures))
        assert list(check_boxes(objects, "train")) == []
        assert objects.counts.tolist() == [0] * len(pictures)
