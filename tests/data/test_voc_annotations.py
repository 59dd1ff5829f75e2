"""VOC's annotations: classes, sizes, encodings, and boxes where none are read."""

from pathlib import Path

import pytest

from rcnnkit.data.voc import read_voc
from tests.data.voc_files import add_picture, voc_object


def test_every_split_numbers_its_classes_alike(tmp_path: Path) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9), "zebra"))
    add_picture(tmp_path, "b", voc_object((1, 1, 9, 9), "ant"))
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\n")
    data, _ = read_voc(tmp_path, "val")
    assert data.class_names == ["ant", "zebra"]
    assert data.records[0].targets.labels.tolist() == [1]


def test_given_class_names_set_the_order(tmp_path: Path) -> None:
    things = [voc_object((1, 1, 9, 9), name) for name in ("ant", "dog", "cat", "dog")]
    add_picture(tmp_path, "a", *things)
    data, problems = read_voc(tmp_path, "train", ["cat", "ant"])
    assert data.records[0].targets.labels.tolist() == [1, 0]
    assert len(problems) == 1
    assert problems[0].where == "class 'dog'"
    for words in ("2 objects", "object 1 of a.xml", "cat, ant"):
        assert words in problems[0].message
    assert problems.objects == 2


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height><depth>3</depth></size>"])
def test_missing_size_is_taken_from_the_picture(tmp_path: Path, size: str) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 42, 9)), size=size)
    data, problems = read_voc(tmp_path, "train")
    assert data.records[0].size == (30, 40)
    assert "beyond the right edge" in problems[0].message


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ("<objects>{0}{0}</objects>", "2 boxes are not read: in <annotation><objects><object><bndbox>"),
        ("{1}{0}", "1 box is not read: in <annotation><Object><bndbox>"),
        ("<object><name>cat</name>{0}</object>", "1 box is not read: in <annotation><object><object><bndbox>"),
        ("{2}", "1 box is not read: in <annotation><object><BndBox>"),
    ],
)
def test_boxes_that_are_elsewhere_are_not_left_in_silence(tmp_path: Path, objects: str, said: str) -> None:
    one = voc_object((2, 2, 9, 9))
    others = (one.replace("object", "Object"), one.replace("bndbox", "BndBox"))
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9)), objects.format(one, *others))
    data, problems = read_voc(tmp_path, "train")
    assert (len(data), problems.pictures) == (0, 1)  # its other objects would be learnt as background
    assert [(Path(p.file).name, p.where, p.message) for p in problems] == [
        ("a.xml", "", f"{said}, expected in <annotation><object><bndbox>; correct the file")
    ]


@pytest.mark.parametrize(
    ("encoding", "name"), [("gb2312", "猫"), ("GBK", "镕"), ("Shift_JIS", "猫"), ("latin-1", "Löwe"), ("utf-16", "猫")]
)
def test_an_xml_may_declare_its_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    add_picture(tmp_path, "a")
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation>{voc_object((1, 1, 9, 9), name)}</annotation>'
    (tmp_path / "Annotations/a.xml").write_bytes(text.encode(encoding))
    data, problems = read_voc(tmp_path, "train")
    assert (problems, data.class_names, len(data.records[0].targets)) == ([], [name], 1)


@pytest.mark.parametrize(
    "declared", ["", '<?xml version="1.0" encoding="utf-8"?>', '<?xml version="1.0" encoding="euc-jp"?>']
)
def test_an_xml_in_another_encoding_than_it_declares(tmp_path: Path, declared: str) -> None:
    add_picture(tmp_path, "a")
    file = tmp_path / "Annotations/a.xml"
    text = f"{declared}<annotation>{voc_object((1, 1, 9, 9), 'Löwe')}</annotation>"
    file.write_text(text, encoding="latin-1")
    _, problems = read_voc(tmp_path, "train")
    assert [(p.file, p.where) for p in problems] == [(str(file), "")]
    assert problems[0].message.startswith("its text cannot be decoded (")
    assert problems[0].message.endswith("; save it as UTF-8, and declare no other encoding")
    file.write_text(text.removeprefix(declared), encoding="utf-8")
    assert read_voc(tmp_path, "train")[0].class_names == ["Löwe"]


def test_sizes_on_trust(tmp_path: Path) -> None:
    add_picture(tmp_path, "good", voc_object((1, 1, 9, 9)))
    add_picture(tmp_path, "damaged", voc_object((1, 1, 9, 9)))
    add_picture(tmp_path, "sizeless", size="")
    (tmp_path / "JPEGImages" / "damaged.jpg").write_bytes(b"damaged")
    assert len(read_voc(tmp_path, "train")[1]) == 1
    data, problems = read_voc(tmp_path, "train", check_pictures=False)
    assert [record.size for record in data.records] == [(30, 40)] * 3
    (tmp_path / "JPEGImages" / "sizeless.jpg").write_bytes(b"damaged")
    assert "cannot be read" in str(read_voc(tmp_path, "train", check_pictures=False)[1][0])
    assert problems == []
