"""VOC's XML files without lists, as LabelImg and Roboflow leave them."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData
from rcnnkit.data.voc import read_voc
from rcnnkit.data.xml_folders import read_xml


def add(file: Path, picture: Path | None, *boxes: tuple[int, int, int, int], filename: str = "") -> None:
    """An annotation, and its picture, 40 x 30."""
    file.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>cat</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    file.write_text(f"<annotation><filename>{filename}</filename>{objects}</annotation>")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(picture)


def test_beside_their_pictures_split_by_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path / "train" / "a.xml", tmp_path / "train" / "a.jpg", (1, 1, 10, 20), (5, 6, 7, 8))
    add(tmp_path / "train" / "b.xml", tmp_path / "train" / "b.png")
    add(tmp_path / "valid" / "a.xml", tmp_path / "valid" / "a.jpg", (2, 3, 10, 20))
    Image.new("RGB", (40, 30)).save(tmp_path / "train" / "unlabelled.jpg")
    data = read_data(tmp_path, "train")
    assert [record.id for record in data.records] == ["train/a", "train/b"]
    assert [record.path.name for record in data.records] == ["a.jpg", "b.png"]
    assert data.records[0].targets.boxes.tolist() == [[0, 0, 10, 20], [4, 5, 7, 8]]  # 1-based and inclusive in the file
    assert (data.class_names, len(data.records[1].targets)) == (["cat"], 0)
    assert "a picture without an annotation (1 time); the first: " in caplog.text
    (record,) = read_data(tmp_path, "val").records
    assert record.id == "valid/a"
    for read in (read_data, read_xml):
        with pytest.raises(FileNotFoundError, match="its folders of splits are train, valid"):
            read(tmp_path, "test")


def test_apart_from_their_pictures(tmp_path: Path) -> None:
    add(tmp_path / "annotations" / "a.xml", tmp_path / "images" / "a.jpg", (1, 1, 10, 20))
    add(tmp_path / "annotations" / "7.xml", tmp_path / "images" / "seven.jpg", filename=r"C:\pictures\seven.jpg")
    with pytest.raises(FileNotFoundError, match="so all pictures are train; divide them with `rcnnkit split`"):
        read_data(tmp_path, "test")
    data = read_data(tmp_path, "train")
    assert {record.id: record.path.name for record in data.records} == {
        "annotations/a": "a.jpg",
        "annotations/7": "seven.jpg",
    }


def test_what_is_wrong(tmp_path: Path) -> None:
    add(tmp_path / "a.xml", None, (1, 1, 10, 20))
    add(tmp_path / "b.xml", tmp_path / "one" / "b.jpg", (1, 1, 10, 20))
    add(tmp_path / "b.xml", tmp_path / "two" / "b.jpg", (1, 1, 10, 20))
    add(tmp_path / "c.xml", tmp_path / "c.jpg", (1, 1, 10, 99))
    (tmp_path / "d.xml").write_text("<annotation>")
    with pytest.raises(BadData) as error:
        read_data(tmp_path, "train")
    told = [re.sub(rf"{tmp_path}/?", "", str(problem)) for problem in error.value.problems]
    assert told[0].startswith("d.xml: line 1: this is not XML")
    assert told[1] == "a.xml: there is no picture a of any type in ; put it there"
    assert told[2] == "b.xml: it could be of any of one/b.jpg, two/b.jpg; name one in <filename>"
    assert told[3].startswith(
        "c.xml: object 0: xmin 1, ymin 1, xmax 10, ymax 99 reaches 69 pixels beyond the lower edge"
    )
    assert len(told) == 4


def test_blood_cells_without_their_lists(bccd: Path, tmp_path: Path) -> None:
    listed, _ = read_voc(bccd, "val")
    for record in listed.records:
        for path in (record.path, bccd / "Annotations" / f"{record.id}.xml"):
            (tmp_path / "val").mkdir(exist_ok=True)
            shutil.copyfile(path, tmp_path / "val" / path.name)
    data, _ = read_xml(tmp_path, "val", listed.class_names)
    assert len(data) == len(listed)
    for one, other in zip(sorted(data.records, key=lambda r: r.path.stem), listed.records, strict=True):
        assert one.path.stem == other.id
        assert torch.equal(one.targets.boxes, other.targets.boxes)
        assert torch.equal(one.targets.labels, other.targets.labels)
