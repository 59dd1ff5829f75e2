"""Covered objects: how much, where, and what stays as it was."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit.data.occluded import occlude, write_occluded
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.images import read_picture
from rcnnkit.structures import Targets


@pytest.fixture
def data(digits: Path) -> Dataset:
    return read_data(digits, "val", format="voc")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
@pytest.mark.parametrize("box", [(3.0, 5, 43, 35), (3.4, 5.6, 42.2, 34.9), (0, 0, 80, 60), (79.2, 59.5, 80, 60)])
def test_the_share_that_is_covered(share: float, box: tuple[float, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    before = picture.copy()
    places = set()
    for seed in range(20):
        found = occlude(picture, np.array([box]), share, np.random.default_rng(seed))
        assert (picture == before).all()
        ys, xs = np.nonzero((found != picture).any(2))
        y1, y2, x1, x2 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
        places.add((int(y1), int(x1)))
        left, upper, right, lower = box
        assert x1 >= math.floor(left)
        assert y1 >= math.floor(upper)
        assert x2 <= math.ceil(right)
        assert y2 <= math.ceil(lower)
        assert len(np.unique(found[y1:y2, x1:x2].reshape(-1, 3), axis=0)) == 1  # one colour
        width, height = math.ceil(right) - math.floor(left), math.ceil(lower) - math.floor(upper)
        wanted = max(1, share * width * height)
        assert abs((y2 - y1) * (x2 - x1) - wanted) <= (y2 - y1) / 2 + 2  # half a pixel's width; a colour may be there
    assert len(places) > 1 or share == 0.99 or box[0] > 79


def test_the_copies_are_a_data_set_of_the_same_objects(data: Dataset, tmp_path: Path) -> None:
    write_occluded(data, tmp_path / "out", 0.3)
    copies = read_data(tmp_path / "out", "test")
    assert len(copies) == len(data)
    for one, other in zip(data.records, copies.records, strict=True):
        assert other.path.suffix == ".png"
        assert one.targets.boxes.equal(other.targets.boxes)
        assert [data.class_names[i] for i in one.targets.labels] == [
            copies.class_names[i] for i in other.targets.labels
        ]
        before, after = (read_picture(each.path, each.size) for each in (one, other))
        changed = (before != after).any(2)
        inside = np.zeros_like(changed)
        for x1, y1, x2, y2 in one.targets.boxes.tolist():
            box = np.s_[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
            inside[box] = True
            assert changed[box].mean() >= 0.25
        assert changed.any()
        assert not changed[~inside].any()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_seed_decides(data: Dataset, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_occluded(data, tmp_path / name, 0.3, seed)
        files = sorted((tmp_path / name / "images").iterdir())
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_crowds_stay_as_they_are(data: Dataset, tmp_path: Path) -> None:
    record = data.records[0]
    crowd = torch.ones(len(record.targets), dtype=torch.bool)
    crowd[0] = False
    few = replace(data, records=[replace(record, targets=replace(record.targets, crowd=crowd))])
    write_occluded(few, tmp_path / "out", 0.3)
    content = json.loads((tmp_path / "out" / "annotations" / "instances_test.json").read_text())
    assert sum(each["iscrowd"] for each in content["annotations"]) == len(crowd) - 1
    (file,) = (tmp_path / "out" / "images").iterdir()
    x1, y1, x2, y2 = record.targets.boxes[0].tolist()
    ys, xs = np.nonzero((read_picture(file, record.size) != read_picture(record.path, record.size)).any(2))
    assert math.floor(x1) <= xs.min() <= xs.max() < math.ceil(x2)
    assert math.floor(y1) <= ys.min() <= ys.max() < math.ceil(y2)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.3, 30, float("nan"), float("inf")])
def test_shares_that_are_none(data: Dataset, tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=rf"share = {share:g} is not between 0 and 1; give the part of each object"):
        write_occluded(data, tmp_path / "out", share)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_half_remains(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="out is not an empty folder"):
        write_occluded(data, tmp_path / "out", 0.3)
    gone = replace(data.records[-1], path=tmp_path / "gone.jpg")
    with pytest.raises((OSError, ValueError), match=r"gone\.jpg"):
        write_occluded(replace(data, records=[*data.records[:-1], gone]), tmp_path / "new", 0.3)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_pictures_without_objects(data: Dataset, tmp_path: Path) -> None:
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    empty = replace(data.records[0], targets=none)
    with pytest.raises(ValueError, match="has no object to cover; name a split with annotated objects"):
        write_occluded(replace(data, records=[empty]), tmp_path / "out", 0.3)
    write_occluded(replace(data, records=[empty, data.records[1]]), tmp_path / "out", 0.3)
    first = min((tmp_path / "out" / "images").iterdir())
    assert (read_picture(first, empty.size) == read_picture(empty.path, empty.size)).all()
