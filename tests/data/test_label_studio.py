"""Label Studio's exports, JSON and JSON_MIN of version 1."""

import json
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.data.reading import read_data
from tests.data.annotation_files import OTHER_SIZE, pictures, problems, read


def result(kind: str = "rectanglelabels", size: bool = True, key: str = "r1", **value: Any) -> dict[str, Any]:
    about = {"original_width": 80, "original_height": 60, "image_rotation": 0} if size else {}
    return {"id": key, "type": kind, "from_name": "label", "to_name": "image", "value": value, **about}


def rectangle(x: float, y: float, width: float, height: float, label: str = "cat", **more: Any) -> dict[str, Any]:
    size = more.pop("size", True)
    return result(size=size, x=x, y=y, width=width, height=height, rectanglelabels=[label], **{"rotation": 0, **more})


def task(number: int, image: str, *results: Any, **more: Any) -> dict[str, Any]:
    annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "result": [*results]}
    return {"id": number, "annotations": [annotation | more], "data": {"note": "x", "image": image}, "predictions": []}


def write(root: Path, *tasks: Any) -> None:
    (root / "export.json").write_text(json.dumps(tasks))


def test_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, "a.png", "pictures/deadbeef-b.png", "c d.png", "e.png", "f.png")
    write(
        tmp_path,
        task(
            1,
            "/data/upload/3/0a1b2c3d-a.png",  # uploaded as a.png
            rectangle(10, 20, 30, 40),
            rectangle(50, 10, 25, 50, "dog", rotation=90),
            result("polygonlabels", points=[[10, 10], [50, 20], [30, 75]], polygonlabels=["cat"], closed=True),
            result("ellipselabels", x=50, y=50, radiusX=25, radiusY=10, rotation=0, ellipselabels=["dog"]),
            result("brushlabels", rle=[0, 1], brushlabels=["cat"]),
        ),
        task(2, "/data/local-files/?d=pictures/deadbeef-b.png", rectangle(0, 0, 100, 100, size=False)),
        task(3, "https://example.com/files/c%20d.png?signature=1"),
        task(4, "s3://bucket/folder/e.png", result("rectangle", x=1, y=1, width=50, height=50, rotation=0),
             result("choices", x=1, y=1, width=50, height=50, choices=["blurred"]),
             result("labels", x=1, y=1, width=50, height=50, labels=["owl", "bird"])),
        {"id": 5, "data": {"image": "/x/f.png"}, "annotations": [
            {"result": [rectangle(0, 0, 10, 10, "wrong")]},
            {"result": [rectangle(0, 0, 20, 20, "cat")]},
            {"result": [rectangle(0, 0, 30, 30, "wrong")], "was_cancelled": True}]},
    )  # fmt: skip
    assert read(tmp_path) == {
        "a.png": [("cat", 8, 12, 32, 36), ("dog", 10, 6, 40, 26), ("cat", 8, 6, 40, 45), ("dog", 20, 24, 60, 36)],
        "pictures/deadbeef-b.png": [("cat", 0, 0, 80, 60)],
        "c d.png": [],
        "e.png": [("owl", 0.8, 0.6, 40.8, 30.6)],
        "f.png": [("cat", 0, 0, 16, 12)],
    }
    for said in (
        "a turned rectangle (1 time); the first: ",
        "task 1, object 1: its rotation is 90 degrees; the upright box around it is used",
        "task 1, object 4: a brush has no box",
        "task 4, object 0: it has the labels owl, bird, of which the first is used",
        "a picture that is annotated several times (1 time)",
    ):
        assert said in caplog.text


def test_ground_truth_comes_before_the_last(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    several = [task(1, "a.png", rectangle(0, 0, side, side), ground_truth=side == 20) for side in (10, 20, 30)]
    write(tmp_path, several[0] | {"annotations": [each["annotations"][0] for each in several]})
    assert read(tmp_path) == {"a.png": [("cat", 0, 0, 16, 12)]}


def test_json_min(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    size = {"original_width": 80, "original_height": 60}
    common = {"annotator": 1, "annotation_id": 3, "created_at": "2024-01-01", "lead_time": 9.5}
    rectangles = [{"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"], **size}]
    polygon = [{"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["dog"], **size}]
    write(tmp_path, {"image": "/data/upload/1/a.png", "id": 1, "label": rectangles, "outline": polygon, **common},
          {"image": "/data/upload/1/b.png", "id": 2, **common})  # fmt: skip
    assert read(tmp_path) == {"a.png": [("cat", 8, 12, 32, 36), ("dog", 0, 0, 40, 30)], "b.png": []}


def test_what_is_wrong(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    write(
        tmp_path,
        task(
            1,
            "a.png",
            rectangle(10, 20, 0, 40),
            rectangle(90, 20, 30, 40),
            result(x=1, y=2, width=3, height="4", rectanglelabels=["cat"]),
            result(x=1, y=2, width=3, height=4, rectanglelabels=[]),
            result("polygonlabels", points=[[10, 10], [50, 20]], polygonlabels=["cat"]),
            result("polygonlabels", points=[[10, 10], 5], polygonlabels=["cat"]),
        ),
        task(2, "b.png", {**rectangle(1, 1, 5, 5), "original_width": 81}),
        task(3, "c.png"),
        task(4, "a.png"),
        {"id": 5, "data": {"text": "a review"}, "annotations": []},
    )
    file, label = "export.json: ", "export.json: task 1, object"
    assert problems(tmp_path) == [
        f'{label} 2: height is "4", expected a number; correct it',
        f"{label} 3: the rectangle has no label; give it one",
        f"{label} 4: a polygon with 2 corners; it needs three or more; draw it again, or delete it",
        f"{label} 5: points is [[10, 10], 5], expected [[x, y], …]; correct it",
        f"{file}task 4: its picture a.png is that of task 1 too; delete one task",
        f"{file}task 5: it names no picture; export pictures only, or delete the task",
        f"{file}task 3: picture c.png: it is not in ; correct its path",
        f"{label} 0: x 10, y 20, width 0, height 40 (percent) leaves the box no width; correct it or delete the object",
        f"{label} 1: x 90, y 20, width 30, height 40 (percent) reaches 16 pixels beyond the right edge of the"
        " picture, which is 80 wide and 60 high; correct the box or the size",
        f"{file}task 2: the annotation says 81 wide and 60 high, but b.png is 80 wide and 60 high; {OTHER_SIZE}",
    ]
    assert [len(record.targets) for record in read_data(tmp_path, "train", skip_bad=True).records] == [0]


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"annotations": [], "data": {')
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read_data(tmp_path, "a.json")
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="holds no list of tasks; export it from Label Studio as JSON"):
        read_data(tmp_path, "a.json", format="label_studio")


def test_what_nobody_has_annotated_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    skipped = task(2, "b.png", rectangle(0, 0, 10, 10), was_cancelled=True)
    write(tmp_path, task(1, "a.png"), skipped, task(3, "c.png") | {"annotations": []},
          {"id": 4, "completions": [], "data": {"image": "d.png"}})  # fmt: skip
    assert read(tmp_path) == {"a.png": []}  # which somebody says has none
    assert (
        "a task that was skipped, so its picture is left out (1 time); the first: "
        f"{tmp_path / 'export.json'}: task 2: annotate it, also where nothing is in it"
    ) in caplog.text
    assert "a task that is not annotated, so its picture is left out (2 times); the first: " in caplog.text
    write(tmp_path, skipped)
    with pytest.raises(ValueError, match=r"export\.json: none of its 1 task is annotated; annotate some in Label Stud"):
        read_data(tmp_path, "train")
