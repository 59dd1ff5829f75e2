"""VIA's files, version 2: projects, and annotations as JSON and CSV."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.data.reading import read_data
from tests.data.annotation_files import pictures, problems, read

RECT: dict[str, Any] = {"name": "rect", "x": 10, "y": 5, "width": 40, "height": 20}
SHAPES: list[dict[str, Any]] = [
    RECT,
    {"name": "circle", "cx": 30, "cy": 30, "r": 12.5},
    {"name": "ellipse", "cx": 40, "cy": 30, "rx": 20, "ry": 10, "theta": 1.5707963267948966},
    {"name": "ellipse", "cx": 40, "cy": 30, "rx": 20, "ry": 10},
    {"name": "polygon", "all_points_x": [1, 30, 12], "all_points_y": [2, 4, 40]},
    {"name": "polyline", "all_points_x": [1, 30], "all_points_y": [2, 4]},
    {"name": "point", "cx": 3, "cy": 4},
]
BOXES = [(10, 5, 50, 25), (17.5, 17.5, 42.5, 42.5), (30, 10, 50, 50), (20, 20, 60, 40), (1, 2, 30, 40)]


def picture(name: str, *regions: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}123": {"filename": name, "size": 123, "regions": [*regions], "file_attributes": {}}}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def write(root: Path, *entries: dict[str, Any], **project: Any) -> None:
    content: dict[str, Any] = {}
    for entry in entries:
        content |= entry
    if project:
        content = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": project}
    (root / "via.json").write_text(json.dumps(content))


@pytest.mark.parametrize("form", ["json", "project", "csv", "version 1"])
def test_shapes(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, "a.png", "b.png")
    regions = [region(shape, kind="cat" if i % 2 else "dog") for i, shape in enumerate(SHAPES)]
    if form == "csv":
        columns = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
        with (tmp_path / "via.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([*columns, "region_shape_attributes", "region_attributes"])
            for i, each in enumerate(regions):
                shape, attributes = json.dumps(each["shape_attributes"]), json.dumps(each["region_attributes"])
                rows.writerow(["a.png", 123, "{}", len(regions), i, shape, attributes])
            rows.writerow(["b.png", 123, "{}", 0, 0, "{}", "{}"])
    else:
        write(tmp_path, picture("a.png", *regions), picture("b.png"), **({"region": {}} if form == "project" else {}))
        if form == "version 1":
            content = json.loads((tmp_path / "via.json").read_text())
            content["a.png123"]["regions"] = {str(i): each for i, each in enumerate(regions)}
            (tmp_path / "via.json").write_text(json.dumps(content))
    expected = [("cat" if i % 2 else "dog", *box) for i, box in enumerate(BOXES)]
    assert read(tmp_path) == {"a.png": expected, "b.png": []}
    assert "a shape that is left out (2 times); the first: " in caplog.text


def test_the_class_is_one_of_the_attributes(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    write(tmp_path, picture("a.png", region(RECT)))
    assert read(tmp_path) == {"a.png": [("object", 10, 5, 50, 25)]}
    write(tmp_path, picture("a.png", region(RECT, Label="cat", colour="red", note="")))
    assert read(tmp_path) == {"a.png": [("cat", 10, 5, 50, 25)]}
    write(tmp_path, picture("a.png", region(RECT, animal={"cat": True, "dog": False})))
    assert read(tmp_path) == {"a.png": [("cat", 10, 5, 50, 25)]}
    options = {"type": "radio", "options": {"owl": "", "cat": ""}, "default_options": {}}
    write(tmp_path, picture("a.png", region(RECT, type="dog"), region(SHAPES[1], type="cat")), region={"type": options})
    assert read_data(tmp_path, "train").class_names == ["owl", "cat", "dog"]
    write(tmp_path, picture("a.png", region(RECT, species="cat", colour="red")))
    with pytest.raises(ValueError, match="the attributes species, colour, and none is called class; rename the one"):
        read_data(tmp_path, "train")


def test_what_is_wrong(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    write(
        tmp_path,
        picture(
            "a.png",
            region(RECT, type=""),
            region({**RECT, "width": None}, type="cat"),
            region({"name": "polygon", "all_points_x": [1, 3], "all_points_y": [2, 4]}, type="cat"),
            region({"name": "polygon", "all_points_x": "1", "all_points_y": [2, 4]}, type="cat"),
            region({"name": "star"}, type="cat"),
            region({**RECT, "width": 400}, type="cat"),
            region(RECT, type={"cat": True, "dog": True}),
        ),
        picture("c.png"),
        {"x": {"size": 1}, "y": {"filename": "b.png", "regions": 5}},
    )
    where = "via.json: picture a.png, region"
    assert problems(tmp_path) == [
        "via.json: entry x: it has no filename; give the picture's",
        "via.json: picture b.png: its regions are 5, expected a list; correct it",
        f"{where} 0: it has no type; give it one",
        f"{where} 1: width is missing, expected a number; correct it",
        f"{where} 2: a polygon with 2 corners; it needs three or more; draw it again, or delete it",
        f'{where} 3: all_points_x is "1", expected numbers; correct it',
        f'{where} 4: its shape is "star", expected rect, circle, ellipse or polygon; draw it again',
        f"{where} 6: its type is cat and dog; choose one",
        "via.json: picture c.png: picture c.png: it is not in ; correct its path",
        f"{where} 5: rect x 10, y 5, width 400, height 20 reaches 330 pixels beyond the right edge of the picture,"
        " which is 80 wide and 60 high; correct the box or the size",
    ]
