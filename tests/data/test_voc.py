"""VOC's layout: real files, the 1-based shift, the way back, and every kind of broken file."""

import os
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc import read_voc, write_voc
from rcnnkit.images import read_picture
from rcnnkit.structures import Targets

Form = Literal["NFC", "NFD"]
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def voc_object(corners: tuple, name: str = "cat", extra: str = "") -> str:
    xmin, ymin, xmax, ymax = corners
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def add_picture(root: Path, name: str, *objects: str, size: str = SIZE, suffix: str = ".jpg") -> None:
    """A 40 x 30 picture, its annotation, and its line in train.txt."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}{suffix}")
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
    with (root / "ImageSets/Main/train.txt").open("a") as file:
        file.write(f"{name}\n")


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


@pytest.mark.parametrize(
    ("split", "picture", "thing", "value"),
    [("val", "BloodImage_00338", 12, "xmin 504 = xmax 504"), ("train", "BloodImage_00343", 3, "xmin 181 = xmax 181")],
)
def test_finds_the_two_degenerate_cells(bccd: Path, split: str, picture: str, thing: int, value: str) -> None:
    _, problems = read_voc(bccd, split)
    assert [(Path(p.file).stem, p.where) for p in problems] == [(picture, f"object {thing}")]
    assert value in problems[0].message
    assert (problems.objects, problems.pictures) == (1, 0)


def test_shift_flags_and_any_picture_type(tmp_path: Path) -> None:
    flags = "<difficult>1</difficult><truncated>1</truncated>"
    add_picture(tmp_path, "one", voc_object((1, 1, 40, 30), extra=flags), voc_object((3.5, 4, 8.25, 9), "ant"))
    add_picture(tmp_path, "two", suffix=".PNG")
    data, problems = read_voc(tmp_path, "train")
    assert problems == []
    one, two = data.records
    assert data.class_names == ["ant", "cat"]
    assert one.targets.boxes.tolist() == [[0, 0, 40, 30], [2.5, 3, 8.25, 9]]
    assert one.targets.labels.tolist() == [1, 0]
    assert one.targets.difficult.tolist() == one.targets.truncated.tolist() == [True, False]
    assert two.path.name == "two.PNG"
    assert two.targets.boxes.shape == (0, 4)


def test_list_may_have_a_second_column_and_blank_lines(tmp_path: Path) -> None:
    for name in ("a", "b", "c d"):
        add_picture(tmp_path, name)
    (tmp_path / "ImageSets/Main/cat_train.txt").write_text("a  1\n\n b -1 \r\nc d\n\n")
    data, problems = read_voc(tmp_path, "cat_train")
    assert [record.id for record in data.records] == ["a", "b", "c d"]
    assert problems == []


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


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    source, root = tmp_path / "elsewhere", tmp_path / "voc"
    source.mkdir()
    Image.new("RGB", (640, 480)).save(source / "x.png")
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=random) * torch.tensor([320.0, 240.0])
    sides = 1.1 + torch.rand(40, 2, generator=random) * torch.tensor([310.0, 230.0])
    targets = Targets(
        boxes=torch.cat([corners, corners + sides], dim=1),
        labels=torch.arange(40) % 3,
        difficult=torch.arange(40) % 2 == 0,
        truncated=torch.arange(40) % 5 == 0,
    )
    data = Dataset("d", [Record("x", source / "x.png", (480, 640), targets)], ["b", "a", "c & <d>"], [1, 2, 3])
    write_voc(data, root, "test")
    back, problems = read_voc(root, "test", data.class_names)
    assert problems == []
    assert (root / "JPEGImages/x.png").read_bytes() == (source / "x.png").read_bytes()
    for name in ("boxes", "labels", "difficult", "truncated"):
        assert torch.equal(getattr(back.records[0].targets, name), getattr(targets, name)), name


def test_blood_cells_survive_a_round_trip(bccd: Path, tmp_path: Path) -> None:
    data, _ = read_voc(bccd, "val")
    few = Dataset(data.name, data.records[:20], data.class_names, data.category_ids)
    write_voc(few, tmp_path, "val")
    back, problems = read_voc(tmp_path, "val", data.class_names)
    assert problems == []
    for old, new in zip(few.records, back.records, strict=True):
        assert (old.id, old.size) == (new.id, new.size)
        assert torch.equal(old.targets.boxes, new.targets.boxes)
        assert torch.equal(old.targets.labels, new.targets.labels)


def test_writing_overwrites_nothing(tmp_path: Path) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9)))
    data, _ = read_voc(tmp_path, "train")
    before = (tmp_path / "Annotations/a.xml").read_text()
    with pytest.raises(FileExistsError, match=r"a\.xml exists"):
        write_voc(data, tmp_path, "new")
    assert (tmp_path / "Annotations/a.xml").read_text() == before
    assert not (tmp_path / "ImageSets/Main/new.txt").exists()


def test_writing_refuses_what_the_reader_would(tmp_path: Path) -> None:
    thin = Targets(torch.tensor([[0.0, 0, 9, 9], [5, 1, 6, 9]]), torch.zeros(2, dtype=torch.int64))
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    data = Dataset("d", [Record("a", tmp_path / "a.png", (30, 40), thin)], ["cat"], [1])
    with pytest.raises(ValueError, match=r"a\.png, object 1: .* no more than 1 pixel wide or high"):
        write_voc(data, tmp_path / "out", "train")
    assert not (tmp_path / "out").exists()


def test_writing_refuses_two_pictures_of_one_stem(tmp_path: Path) -> None:
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [Record(i, tmp_path / str(i) / "a.jpg", (30, 40), none) for i in (1, 2)]
    with pytest.raises(ValueError, match="would both be a"):
        write_voc(Dataset("d", records, [], []), tmp_path / "out", "train")


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (voc_object((5, 5, 5, 9)), "xmin 5 = xmax 5"),
        (voc_object((9, 5, 5, 9)), "xmin 9 > xmax 5"),
        (voc_object((5, 9, 9, 9)), "ymin 9 = ymax 9"),
        (voc_object(("nan", 5, 9, 9)), "not finite"),
        (voc_object((5, 5, "inf", 9)), "not finite"),
        (voc_object((5, 5, 9, "1e300")), "beyond the lower edge"),
        (voc_object((-1, 5, 9, 9)), "2 pixels beyond the left edge"),
        (voc_object((5, 5, 42, 9)), "2 pixels beyond the right edge of the picture, which is 40 wide and 30 high"),
        (voc_object((5, 5, 9, 31.5)), "1.5 pixels beyond the lower edge"),
        (voc_object((41.2, 5, 41.9, 9)), "beyond the right edge"),
        (voc_object((41.2, 5, 41, 9)), "xmin 41.2 > xmax 41"),
        (voc_object(("five", 5, 9, 9)), "xmin is 'five'"),
        (voc_object(("", 5, 9, 9)), "xmin is ''"),
        (voc_object((5, 5, 9, 9), name=" "), "no <name>"),
        (voc_object((5, 5, 9, 9), extra="<difficult>yes</difficult>"), "difficult is 'yes'"),
        ("<object><name>cat</name></object>", "no <bndbox>"),
        (voc_object((5, 5, 9, 9)).replace("</bndbox>", "</bndbox><bndbox/>"), "there are 2 <bndbox>; give each box an"),
        (
            voc_object((5, 5, 9, 9), extra="<name>dog</name>"),
            "there are 2 <name>; give each box an <object> of its own",
        ),
        (voc_object((5, 5, 9, 9)).replace("<ymin>", "<xmin>1</xmin><ymin>"), "there are 2 <xmin>"),
        (voc_object((0.25, 0.5, 0.75, 1)), "is not in pixels: all four numbers lie between 0 and 1; multiply them"),
    ],
)
def test_bad_object_is_left_out_alone(tmp_path: Path, thing: str, words: str) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9)), thing, voc_object((2, 2, 9, 9)))
    data, problems = read_voc(tmp_path, "train")
    assert data.records[0].targets.boxes.tolist() == [[0, 0, 9, 9], [1, 1, 9, 9]]
    assert [(Path(p.file).name, p.where) for p in problems] == [("a.xml", "object 1")]
    assert words in problems[0].message


def test_rounding_outside_is_cut_silently(tmp_path: Path) -> None:
    add_picture(tmp_path, "a", voc_object((0, 0, 41, 31)))
    data, problems = read_voc(tmp_path, "train")
    assert problems == []
    assert data.records[0].targets.boxes.tolist() == [[0, 0, 40, 30]]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height><depth>3</depth></size>"])
def test_missing_size_is_taken_from_the_picture(tmp_path: Path, size: str) -> None:
    add_picture(tmp_path, "a", voc_object((1, 1, 42, 9)), size=size)
    data, problems = read_voc(tmp_path, "train")
    assert data.records[0].size == (30, 40)
    assert "beyond the right edge" in problems[0].message


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


def test_parts_of_people_have_boxes(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></part>"
    add_picture(tmp_path, "a", voc_object((1, 1, 9, 9), "person", extra=part))
    data, problems = read_voc(tmp_path, "train")
    assert problems == []
    assert data.records[0].targets.boxes.tolist() == [[0, 0, 9, 9]]


def test_an_object_that_is_there_twice_is_kept_and_counted(tmp_path: Path) -> None:
    add_picture(tmp_path, "a", *(voc_object((1, 1, 9, 9), name) for name in ("cat", "dog", "cat", "cat")))
    add_picture(tmp_path, "b", voc_object((1, 1, 9, 9)))
    data, problems = read_voc(tmp_path, "train")
    assert (problems, len(data.records[0].targets)) == ([], 4)
    ((what, (number, first)),) = problems.warnings.items()
    assert (what, number) == ("an object that is annotated twice", 2)
    assert (Path(first.file).name, first.where) == ("a.xml", "object 2")
    assert first.message == "its box and class are those of object 0 too; delete one"


def test_a_data_set_in_shares_is_one_problem(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_picture(tmp_path, name, voc_object((0.25, 0.5, 0.75, 1)))
    data, problems = read_voc(tmp_path, "train")
    assert (len(data), problems.pictures, problems.objects) == (0, 2, 0)
    assert [str(p) for p in problems] == [
        f"{tmp_path / 'Annotations'}: 2 of 2 boxes are not in pixels: all four numbers lie between 0 and 1 (the first"
        " is a.xml, object 0: xmin 0.25, ymin 0.5, xmax 0.75, ymax 1); multiply them by the picture's width and height"
    ]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_blood_cells_are_not_accused(bccd: Path, split: str) -> None:
    _, problems = read_voc(bccd, split)
    assert (len(problems), problems.warnings) == ({"train": 1, "val": 1, "test": 0}[split], {})


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
