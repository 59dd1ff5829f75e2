"""LabelMe's files, versions 3 to 5: one for each picture."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.data.reading import read_data
from tests.data.annotation_files import OTHER_SIZE, pictures, problems, read


def shape(kind: str, *points: tuple[float, float], label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def write(root: Path, name: str, *shapes: Any, **more: Any) -> None:
    about: dict[str, Any] = {"version": "5.4.1", "flags": {}, "imagePath": f"{Path(name).stem}.png", "imageData": None}
    content = about | {"shapes": shapes, "imageHeight": 60, "imageWidth": 80} | more
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


def test_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, "a.png", "b.png", "unlabelled.png")
    write(
        tmp_path,
        "a.json",
        shape("rectangle", (50, 25), (10.5, 5)),  # drawn from the lower right corner
        shape("rectangle", (10, 5), (50, 5), (50, 25), (10, 25), label="dog"),  # X-AnyLabeling's
        shape("polygon", (1, 2), (30, 4), (12, 40)),
        shape("circle", (30, 30), (33, 34)),
        shape("mask", (4, 6), (7, 8), mask="iVBORw0K"),
        shape("oriented_rectangle", (20, 10), (30, 20), (20, 30), (10, 20)),
        shape("polygon", (1, 1), (5, 1), (5, 5), label="owl", group_id=3),
        shape("polygon", (50, 1), (55, 1), (55, 50), label="owl", group_id=3),  # the same owl, behind a branch
        shape("polygon", (50, 1), (55, 1), (55, 50), group_id=3),
        shape("linestrip", (1, 2), (3, 4)),
        shape("point", (1, 2)),
        {**shape("polygon", (1, 2), (30, 4), (12, 41)), "shape_type": None},
    )
    write(tmp_path, "b.json", imageHeight=None, imageWidth=None)
    assert math.hypot(3, 4) == 5
    assert read(tmp_path) == {
        "a.png": [
            ("cat", 10.5, 5, 50, 25),
            ("dog", 10, 5, 50, 25),
            ("cat", 1, 2, 30, 40),
            ("cat", 25, 25, 35, 35),
            ("cat", 4, 6, 8, 9),
            ("cat", 10, 10, 30, 30),
            ("owl", 1, 1, 55, 50),
            ("cat", 50, 1, 55, 50),
            ("cat", 1, 2, 30, 41),
        ],
        "b.png": [],
    }
    assert "a shape that is left out (2 times); the first: " in caplog.text
    assert "a picture without an annotation (1 time); the first: " in caplog.text


def test_splits_and_pictures_elsewhere(tmp_path: Path) -> None:
    pictures(tmp_path, "train/img/a.png", "val/a.png")
    write(tmp_path, "train/ann/a.json", shape("rectangle", (1, 2), (30, 40)), imagePath="..\\img\\a.png")
    write(tmp_path, "val/a.json", shape("rectangle", (1, 2), (30, 41), label="owl"))
    assert read(tmp_path) == {"train/img/a.png": [("cat", 1, 2, 30, 40)]}
    assert read(tmp_path, "val") == {"val/a.png": [("owl", 1, 2, 30, 41)]}
    data = read_data(tmp_path, "val")
    assert (data.class_names, data.records[0].id) == (["cat", "owl"], "val/a")
    with pytest.raises(
        FileNotFoundError, match=r"no annotation for the split 'test'; its folders of splits are train, v"
    ):
        read_data(tmp_path, "test")


def test_what_is_wrong(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png", "e.png")
    write(
        tmp_path,
        "a.json",
        shape("rectangle", (50, 25)),
        shape("polygon", (1, 2), (30, 4)),
        shape("rectangle", (1, 2), (30, 4), label=""),
        shape("star", (1, 2), (30, 4)),
        {"label": "cat", "shape_type": "polygon", "points": [1, 2]},
        5,
        shape("rectangle", (1, 2), (30, 90)),
    )
    write(tmp_path, "b.json", imageHeight=61)
    write(tmp_path, "c.json", imageHeight="60")
    write(tmp_path, "d.json")
    (tmp_path / "e.json").write_text('{"shapes": [')
    assert problems(tmp_path) == [
        "a.json: shape 0: a rectangle with 1 point; it needs 2; draw it again, or delete it",
        "a.json: shape 1: a polygon with 2 corners; it needs three or more; draw it again, or delete it",
        'a.json: shape 2: its label is "", expected a name; give it one',
        'a.json: shape 3: its shape_type is "star", expected rectangle, polygon, circle or mask; draw it again',
        "a.json: shape 4: points is [1, 2], expected [[x, y], …]; correct it",
        "a.json: shape 5: its label is missing, expected a name; give it one",
        'c.json: imageWidth is 80 and imageHeight "60", expected whole pixels; correct them',
        "e.json: e.json is not JSON (Expecting value: line 1 column 13 (char 12)); restore the file",
        "d.json: picture d.png: it is not in ; correct its path",
        "a.json: shape 6: points [[1, 2], [30, 90]] reaches 30 pixels beyond the lower edge of the picture, which is 80"
        " wide and 60 high; correct the box or the size",
        f"b.json: the annotation says 80 wide and 61 high, but b.png is 80 wide and 60 high; {OTHER_SIZE}",
    ]


def test_one_file_is_one_picture(tmp_path: Path) -> None:
    write(tmp_path, "a.json", shape("rectangle", (1, 2), (30, 40)))
    with pytest.raises(ValueError, match=r"a\.json is the annotation of one picture; name its folder"):
        read_data(tmp_path / "a.json", "")
