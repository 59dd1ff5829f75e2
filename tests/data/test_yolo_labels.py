"""YOLO's label files: where they are, and every kind of line."""

from pathlib import Path

import pytest

from rcnnkit.data.reading import read_data
from rcnnkit.data.yolo_labels import label_file
from tests.data.yolo_files import pets, problems, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pets(tmp_path / "pets")


def test_other_layouts_of_labels() -> None:
    assert label_file(Path("pets/images/train/a.jpg")) == Path("pets/labels/train/a.txt")
    assert label_file(Path("images/pets/train/images/a.b.jpeg")) == Path("images/pets/train/labels/a.b.txt")  # the last
    assert label_file(Path("pets/images.jpg")) == Path("pets/images.txt")


def test_key_points_follow_the_box(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\nkpt_shape: [2, 3]\n")
    write(root, "0 0.5 0.5 0.25 0.5 0.1 0.1 2 0.2 0.2 1\n")
    write(root, "", "b")
    assert read_data(root, "train").records[0].targets.boxes.tolist() == [[30, 10, 50, 30]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.25", "'0 0.5 0.5 0.25' has 3 numbers after the class; write x y width height, or three or more"),
        ("0 0.5 0.5 0.25 0.5 0.9", "a fifth number, such as a score, belongs to predictions"),
        ("0 0.1 0.2 0.5 0.9 0.3 0.5 0.1", "has 7 numbers after the class"),
        ("cat 0.5 0.5 0.25 0.5", "'cat 0.5 0.5 0.25 0.5' holds a word that is no number; write class x y width height"),
        ("0.5 0.5 0.5 0.25 0.5", "its class is 0.5; write a whole number from 0"),
        ("-1 0.5 0.5 0.25 0.5", "its class is -1; write a whole number from 0"),
        ("0 nan 0.5 0.25 0.5", "holds a number that is not finite"),
        ("0 0.5 0.5 0 0.5", "0 0.5 0.5 0 0.5 leaves the box no width; correct it or delete the object"),
        ("0 0.9 0.5 0.5 0.5", "reaches 12 pixels beyond the right edge of the picture"),
    ],
)
def test_lines_that_are_wrong(root: Path, line: str, message: str) -> None:
    write(root, f"1 0.5 0.5 0.25 0.5\n{line}\n")
    (problem,) = problems(root)
    assert problem.startswith("labels/train/a.txt: line 2: ")
    assert message in problem
    data = read_data(root, "train", skip_bad=True)
    assert [len(record.targets) for record in data.records] == [1, 1]


def test_classes_beyond_the_names_are_one_problem_each(root: Path) -> None:
    write(root, "2 0.5 0.5 0.25 0.5\n2 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n")
    assert problems(root) == [
        "data.yaml: class 2: 2 objects of this class (the first is line 1 of labels/train/a.txt), and the classes are"
        " 0 cat, 1 dog; correct the number, or add its name"
    ]


def test_boxes_in_pixels(root: Path) -> None:
    write(root, "0 40 20 20 20\n1 20 10 40 20\n")
    assert problems(root) == [
        "data.yaml: 2 of 3 boxes are in pixels, where shares from 0 to 1 belong (the first is line 1 of"
        " labels/train/a.txt: '0 40 20 20 20'); divide x and width by the picture's width, y and height by its height"
    ]
    write(root, "0 40 20 20 20\n1 0.5 0.5 0.5 0.5\n")
    assert problems(root) == [
        "labels/train/a.txt: line 1: '0 40 20 20 20' is in pixels, where shares from 0 to 1 belong; divide x and width"
        " by the picture's width, y and height by its height"
    ]


def test_an_object_twice_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(root, "0 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25 0.5\n")
    assert len(read_data(root, "train").records[0].targets) == 2
    assert "an object that is annotated twice (1 time)" in caplog.text
