"""VOC's layout: real files, lists, names of pictures, and what is missing."""

import os
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from rcnnkit.data.voc import read_voc
from rcnnkit.images import read_picture
from tests.data.voc_files import SIZE, add_picture, voc_object

Form = Literal["NFC", "NFD"]


def test_reads_blood_cells_as_elementtree_does(bccd: Path) -> None:
    data, problems = read_voc(bccd, "train")
    assert data.name == "bccd/train"
    assert data.class_names == ["Platelets", "RBC", "WBC"]
    assert data.category_ids == [1, 2, 3]
    assert len(data) == 205
    assert len(problems) == 1
    for record in data.records:
        written = []
        for thing in ET.parse(bccd / "Annotations" / f"{record.id}.xml").getroot().iter("object"):
            x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{c}", "")) for c in ("xmin", "ymin", "xmax", "ymax"))
            if x1 < x2 and y1 < y2:
                written.append((thing.findtext("name"), [x1 - 1, y1 - 1, x2, y2]))
        names = [data.class_names[label] for label in record.targets.labels.tolist()]
        assert list(zip(names, record.targets.boxes.tolist(), strict=True)) == written
        assert record.size == (480, 640)
        assert record.path == bccd / "JPEGImages" / f"{record.id}.jpg"


def test_list_may_have_a_second_column_and_blank_lines(tmp_path: Path) -> None:
    for name in ("a", "b", "c d"):
        add_picture(tmp_path, name)
    (tmp_path / "ImageSets/Main/cat_train.txt").write_text("a  1\n\n b -1 \r\nc d\n\n")
    data, problems = read_voc(tmp_path, "cat_train")
    assert [record.id for record in data.records] == ["a", "b", "c d"]
    assert problems == []


def test_bad_pictures_and_annotations_are_all_told_together(tmp_path: Path) -> None:
    good = voc_object((1, 1, 9, 9))
    bad = ("no_picture", "no_xml", "broken_xml", "other_xml", "klingon", "empty", "odd_size", "wrong_size")
    for name in ("good", *bad):
        add_picture(tmp_path, name, good)
    (tmp_path / "JPEGImages/no_picture.jpg").unlink()
    (tmp_path / "JPEGImages/empty.jpg").write_bytes(b"")
    xml = tmp_path / "Annotations"
    (xml / "no_xml.xml").unlink()
    (xml / "broken_xml.xml").write_text("<annotation>\n<object>\n</annotation>")
    (xml / "other_xml.xml").write_text("<html/>")
    (xml / "klingon.xml").write_text('<?xml version="1.0" encoding="klingon"?><annotation/>')
    for name, width in (("odd_size", "wide"), ("wrong_size", "41")):
        file = xml / f"{name}.xml"
        file.write_text(file.read_text().replace("<width>40<", f"<width>{width}<"))
    with (tmp_path / "ImageSets/Main/train.txt").open("a") as split:
        split.write("good\n")

    data, problems = read_voc(tmp_path, "train")
    assert [record.id for record in data.records] == ["good"]
    assert {(Path(p.file).name, p.where, p.message.split(";")[0]) for p in problems} == {
        ("klingon.xml", "", "its text cannot be decoded (unknown encoding: klingon)"),
        ("train.txt", "line 10", "good is listed in line 1 already"),
        ("no_picture", "", f"there is no picture no_picture of any type in {tmp_path / 'JPEGImages'}"),
        ("no_xml.xml", "", "there is no such annotation"),
        ("broken_xml.xml", "line 3", "this is not XML (mismatched tag: line 3, column 2)"),
        ("other_xml.xml", "", "the outermost element is <html>, expected <annotation>"),
        ("empty.jpg", "", "the picture file is empty (0 bytes)"),
        ("odd_size.xml", "", "<size> has width 'wide', expected whole pixels"),
        (
            "wrong_size.xml",
            "",
            "the annotation says 41 wide and 30 high,"
            f" but {tmp_path / 'JPEGImages/wrong_size.jpg'} is 40 wide and 30 high",
        ),
    }
    assert problems.pictures == 9


@pytest.mark.parametrize("suffix", [".jfif", ".ppm", ".avif", ".jp2", ".JPE"])
def test_pictures_of_every_format_that_is_read(tmp_path: Path, suffix: str) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9)), suffix=suffix)
    data, problems = read_voc(tmp_path, "train")
    assert problems == []
    assert [record.path.name for record in data.records] == [f"a{suffix}"]
    assert read_picture(data.records[0].path, data.records[0].size).shape == (30, 40, 3)


@pytest.mark.parametrize(
    "line", ["cam1/a", "cam1/a.jpg", "cam1\\a.JPG", "JPEGImages/cam1/a.jpg", "/x/VOC/JPEGImages/cam1/a", "cam1/a.xml 1"]
)
def test_lists_may_name_folders_and_endings(tmp_path: Path, line: str) -> None:
    add_picture(tmp_path, "cam1/a", voc_object((1, 1, 9, 9)))
    add_picture(tmp_path, "cam2/a", voc_object((1, 1, 9, 9), "dog"))
    (tmp_path / "ImageSets/Main/train.txt").write_text(f"{line}\n")
    data, problems = read_voc(tmp_path, "train")
    assert problems == []
    assert data.class_names == ["cat", "dog"]  # of every file in Annotations
    assert [(record.id, record.path) for record in data.records] == [("cam1/a", tmp_path / "JPEGImages/cam1/a.jpg")]


def test_an_ending_in_the_list_chooses_the_picture(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png"):
        add_picture(tmp_path, "a", suffix=suffix)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a.png\n")
    data, problems = read_voc(tmp_path, "train")
    assert (problems, [record.path.name for record in data.records]) == ([], ["a.png"])


def test_a_picture_in_a_folder_is_pointed_out(tmp_path: Path) -> None:
    add_picture(tmp_path, "cam1/a")
    (tmp_path / "Annotations/a.xml").write_text("<annotation/>")
    listed = tmp_path / "ImageSets/Main/train.txt"
    listed.write_text("a\n")
    _, problems = read_voc(tmp_path, "train")
    assert [p.message for p in problems] == [
        f"there is no picture a of any type in {tmp_path / 'JPEGImages'}, but cam1/a is there; write that in the list,"
        " and name its annotation the same"
    ]
    listed.write_text("cam1/a\n")
    (tmp_path / "Annotations/a.xml").rename(tmp_path / "Annotations/cam1/a.xml")
    assert read_voc(tmp_path, "train")[1] == []


@pytest.mark.parametrize("forms", [("NFC", "NFD", "NFC"), ("NFD", "NFC", "NFC"), ("NFC", "NFC", "NFD")])
def test_names_may_be_composed_otherwise(tmp_path: Path, forms: tuple[Form, Form, Form]) -> None:
    listed, picture, annotation = (unicodedata.normalize(form, "é1") for form in forms)
    add_picture(tmp_path, picture, voc_object((1, 1, 9, 9), unicodedata.normalize("NFD", "chaîne")))
    (tmp_path / f"Annotations/{picture}.xml").rename(tmp_path / f"Annotations/{annotation}.xml")
    (tmp_path / "ImageSets/Main/train.txt").write_text(f"{listed}\n{unicodedata.normalize('NFD', 'é1')}\n")
    data, problems = read_voc(tmp_path, "train", [unicodedata.normalize("NFC", "chaîne")])
    assert [(record.id, record.path.stem) for record in data.records] == [(listed, picture)]
    assert data.records[0].targets.labels.tolist() == [0]
    assert [(p.where, p.message.partition(" ")[2]) for p in problems] == [
        ("line 2", "is listed in line 1 already; delete one")
    ]


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    add_picture(tmp_path, "a")
    os.mkfifo(tmp_path / "ImageSets/Main/val.txt")
    with pytest.raises(ValueError, match=r"val\.txt is not a regular file"):
        read_voc(tmp_path, "val")
    (tmp_path / "Annotations/a.xml").unlink()
    for name in ("a", "of_another_split"):
        os.mkfifo(tmp_path / f"Annotations/{name}.xml")
    _, problems = read_voc(tmp_path, "train")
    assert len(problems) == 1
    assert "a.xml is not a regular file; copy what it gives into one" in problems[0].message


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    add_picture(tmp_path, "a", size=SIZE + "<filename>a.png</filename>")
    add_picture(tmp_path, "b")
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"JPEGImages/{name}.png")
    data, problems = read_voc(tmp_path, "train")
    assert [record.path.name for record in data.records] == ["a.png"]
    assert "any of b.jpg, b.png" in problems[0].message


def test_missing_and_empty_splits(tmp_path: Path) -> None:
    add_picture(tmp_path, "a")
    (tmp_path / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match=r"test\.txt; the splits there are train, val"):
        read_voc(tmp_path, "test")
    with pytest.raises(ValueError, match=r"val\.txt lists no picture"):
        read_voc(tmp_path, "val")
    with pytest.raises(FileNotFoundError, match="Annotations is missing"):
        read_voc(tmp_path / "JPEGImages", "train")
    with pytest.raises(ValueError, match="a name twice"):
        read_voc(tmp_path, "train", ["a", "a"])
