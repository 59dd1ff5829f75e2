"""Create ML's JSON, as LabelImg (a file for each picture) and Roboflow (one for each split) write it."""

import json
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import read_data
from tests.data.annotation_files import pictures, problems, read


def thing(label: str, x: float, y: float, width: float, height: float | str) -> dict[str, Any]:
    return {"label": label, "coordinates": {"x": x, "y": y, "width": width, "height": height}}


def entry(image: str, *things: Any) -> dict[str, Any]:
    return {"image": image, "verified": False, "annotations": list(things)}


def write(file: Path, *entries: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(entries))


def test_a_file_for_each_split(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a.png", "train/b.png", "valid/a.png")
    cat, dog = thing("cat", 20, 15, 30, 10), thing("dog", 40.25, 30, 60.5, 60)
    write(tmp_path / "train" / "_annotations.createml.json", entry("a.png", dog), entry("b.png"))
    write(tmp_path / "valid" / "_annotations.createml.json", {"image": "a.png", "annotations": [cat]})
    assert read(tmp_path) == {"train/a.png": [("dog", 10, 0, 70.5, 60)], "train/b.png": []}
    assert read(tmp_path, "val") == {"valid/a.png": [("cat", 5, 10, 35, 20)]}
    data = read_data(tmp_path, "train")
    assert (data.class_names, data.category_ids) == (["cat", "dog"], [1, 2])  # those of all splits
    assert [record.id for record in data.records] == ["a", "b"]
    alone = read_data(tmp_path / "train" / "_annotations.createml.json", "")
    assert (alone.class_names, alone.name) == (["dog"], "train/_annotations.createml")
    with pytest.raises(FileNotFoundError, match=r"has no split 'test'; its splits are train, valid"):
        read_data(tmp_path, "test")


def test_a_file_for_each_picture(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    write(tmp_path / "a.json", entry("a.png", thing("cat", 20, 15, 30, 10)))
    write(tmp_path / "b.json", {"imagefilename": "b.png", "annotation": [thing("dog", 20, 15, 30, 10)]})
    assert find_layout(tmp_path).title == "Create ML"
    assert read(tmp_path) == {"a.png": [("cat", 5, 10, 35, 20)], "b.png": [("dog", 5, 10, 35, 20)]}


def test_files_that_are_called_like_splits(tmp_path: Path) -> None:
    pictures(tmp_path, "pictures/a.png", "pictures/b.png")
    write(tmp_path / "train.json", entry("a.png", thing("cat", 20, 15, 30, 10)))
    write(tmp_path / "val.json", entry("b.png", thing("cat", 20, 15, 30, 10)))
    assert list(read(tmp_path)) == ["pictures/a.png"]
    assert list(read(tmp_path, "val")) == ["pictures/b.png"]


def test_what_is_wrong(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    write(
        tmp_path / "train" / "labels.json",
        entry("../a.png", thing("", 1, 1, 1, 1), thing("cat", 1, 1, 1, "1"), {"label": "cat"}, 5),
        entry("../a.png"),
        {"image": 7, "annotations": []},
        {"image": "b.png", "annotations": {}},
    )
    pictures(tmp_path, "train/a.png", "train/c.png")
    write(tmp_path / "train" / "more.json", entry("c.png", thing("cat", 75, 30, 20, 20), thing("cat", 9, 9, 0, 9)))
    (tmp_path / "train" / "none.json").write_text("{}")
    assert problems(tmp_path) == [
        "train/labels.json: picture ../a.png, object 0: it has no label; give it one",
        'train/labels.json: picture ../a.png, object 1: height is "1", expected a number; correct it',
        "train/labels.json: picture ../a.png, object 2: x is missing, expected a number; correct it",
        "train/labels.json: picture ../a.png, object 3: it has no label; give it one",
        "train/labels.json: picture 1: its image ../a.png is in train/labels.json already; give its objects together,"
        " once",
        "train/labels.json: picture 2: its image is 7, expected the name of a file; correct it",
        "train/labels.json: picture 3: its annotations are {}, expected a list; correct it",
        "train/none.json: train/none.json holds no list of pictures; export it from the tool as CreateML, or delete it",
        'train/more.json: picture c.png, object 0: coordinates {"x": 75, "y": 30, "width": 20, "height": 20} reaches 5'
        " pixels beyond the right edge of the picture, which is 80 wide and 60 high; correct the box or the size",
        'train/more.json: picture c.png, object 1: coordinates {"x": 9, "y": 9, "width": 0, "height": 9} leaves the'
        " box no width; correct it or delete the object",
    ]
