"""CVAT's XML, version 1.1 for images, as its exports of tasks and projects look."""

from pathlib import Path

import pytest

from rcnnkit.data.cvat import read_cvat, read_subsets
from rcnnkit.data.reading import read_data
from tests.data.annotation_files import OTHER_SIZE, pictures, problems, read

META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>street</name><mode>annotation</mode><labels>
    <label><name>zebra</name><color>#ff0000</color><type>rectangle</type><attributes></attributes></label>
    <label><name>car</name><type>any</type><attributes></attributes></label>
    <label><name>nose</name><type>points</type><attributes></attributes></label>
  </labels></task></meta>"""


def write(root: Path, *images: str, meta: str = META, name: str = "annotations.xml") -> None:
    (root / name).write_text("\n".join([meta, *images, "</annotations>"]))


def test_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, "images/a.png", "images/b.png", "images/cam/a.png")
    write(
        tmp_path,
        '<image id="0" name="a.png" width="80" height="60">'
        '<box label="car" source="manual" occluded="0" xtl="10.50" ytl="5.25" xbr="50.00" ybr="25.00" z_order="0">'
        '<attribute name="colour">red</attribute></box>'
        '<box label="car" source="manual" occluded="1" xtl="20" ytl="20" xbr="60" ybr="40" rotation="90" z_order="0"/>'
        '<polygon label="zebra" occluded="0" points="1.00,2.00;30.50,4.00;12.00,40.25" z_order="1"/>'
        '<ellipse label="zebra" occluded="0" cx="40.00" cy="30.00" rx="20.00" ry="10.00" z_order="0"/>'
        '<mask label="car" source="manual" occluded="0" rle="3, 5" left="4" top="6" width="4" height="2" z_order="0"/>'
        '<points label="nose" occluded="0" points="3,4"/><tag label="zebra" source="manual"/>'
        "</image>",
        '<image id="1" name="b.png" width="80" height="60"></image>',
        '<image id="2" name="cam/a.png" width="80" height="60"></image>',
    )
    assert read(tmp_path) == {
        "images/a.png": [
            ("car", 10.5, 5.25, 50, 25),
            ("car", 30, 10, 50, 50),
            ("zebra", 1, 2, 30.5, 40.25),
            ("zebra", 20, 20, 60, 40),
            ("car", 4, 6, 8, 8),
        ],
        "images/b.png": [],
        "images/cam/a.png": [],
    }
    assert "a shape that is left out (2 times); the first: " in caplog.text
    assert "image 0 (a.png), object 5: a <points> has no box" in caplog.text
    data = read_data(tmp_path / "annotations.xml", "")
    assert (data.class_names, data.category_ids) == (["zebra", "car"], [1, 2])  # the order of the task
    assert [record.id for record in data.records] == ["a", "b", "cam/a"]


def test_subsets_of_a_project(tmp_path: Path) -> None:
    pictures(tmp_path, "images/train/a.png", "images/val/a.png")
    box = '<box label="{}" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40"/>'
    write(
        tmp_path,
        f'<image id="0" name="a.png" subset="train" task_id="1" width="80" height="60">{box.format("car")}</image>',
        f'<image id="1" name="a.png" subset="val" task_id="2" width="80" height="60">{box.format("bus")}</image>',
        meta="<annotations><version>1.1</version><meta><project><id>3</id><labels><label><name>car</name>"
        "<parent>bus</parent></label></labels></project></meta>",
    )
    assert read_subsets(tmp_path / "annotations.xml") == ["train", "val"]
    assert read(tmp_path) == {"images/train/a.png": [("car", 1, 2, 30, 40)]}
    assert read(tmp_path, "val") == {"images/val/a.png": [("bus", 1, 2, 30, 40)]}
    assert read_data(tmp_path, "train").class_names == read_data(tmp_path, "val").class_names == ["bus", "car"]
    with pytest.raises(ValueError, match=r"no <image> of the subset 'x'; its subsets are train, val; export it"):
        read_cvat(tmp_path / "annotations.xml", "x")


def test_what_is_wrong(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    write(
        tmp_path,
        '<image id="0" name="a.png" width="80" height="60">'
        '<box label="car" xtl="10" ytl="5" xbr="9" ybr="25"/><box label="car" xtl="x" ytl="5" xbr="9" ybr="25"/>'
        '<box xtl="1" ytl="5" xbr="9" ybr="25"/><polygon label="car" points="1,2;3,4"/>'
        '<polygon label="car" points="1,2;3"/></image>',
        '<image id="1" name="b.png" width="60" height="80"/>',
        '<image id="2" name="c.png" width="wide" height="80"/>',
        '<image id="3" name="d.png" width="80" height="60"/>',
        '<image id="4" name="a.png" width="80" height="60"/>',
        '<image id="5" width="80" height="60"/>',
    )
    file, first = "annotations.xml: ", "annotations.xml: image 0 (a.png), object"
    assert problems(tmp_path) == [
        f"{first} 1: xtl is 'x', expected a number; correct it",
        f"{first} 2: the <box> has no label; give it one",
        f"{first} 3: a polygon with 2 corners; it needs three or more; draw it again, or delete it",
        f"{first} 4: points is '1,2;3', expected x,y;x,y;…; correct it",
        f"{file}image 2 (c.png): its width is 'wide' and its height '80', expected whole pixels; correct them",
        f"{file}image 4 (a.png): there is an <image> of this name already; give each its own name",
        f"{file}image 5: it has no name; give the picture's",
        f"{file}image 3 (d.png): picture d.png: it is not in ; correct its path",
        f"{first} 0: xtl 10, ytl 5, xbr 9, ybr 25 leaves the box no width; correct it or delete the object",
        f"{file}image 1 (b.png): the annotation says 60 wide and 80 high, but b.png is 80 wide and 60 high;"
        f" {OTHER_SIZE}",
    ]
    data = read_data(tmp_path, "train", skip_bad=True)
    assert [len(record.targets) for record in data.records] == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><track id='0'/></annotations>", 'is of "CVAT for video"; export the task as "CVAT for images'),
        ("<annotations><version>1.1</version></annotations>", "has no <image>; export it from CVAT as"),
        ("<annotations>", "is not XML"),
        ("<html/>", "the outermost element is <html>, expected CVAT's <annotations>"),
    ],
)
def test_other_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_data(tmp_path, "a.xml")
