"""The objects of VOC's annotations: the 1-based shift, flags, and every kind of bad object."""

from pathlib import Path

import pytest

from rcnnkit.data.voc import read_voc
from tests.data.voc_files import add_picture, voc_object


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
