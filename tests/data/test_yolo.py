"""YOLO's layout, against files written by hand, and what tools make of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.config_files import check_settings
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData
from rcnnkit.data.yolo import label_file, read_yolo, yolo_file
from rcnnkit.training.detection import read_splits

SIZE = (40, 80)  # height, width


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures: two objects, a polygon, none."""
    folder = tmp_path / "pets"
    for split, names in (("train", "ab"), ("val", "c")):
        for name in names:
            picture(folder / "images" / split / f"{name}.png")
        (folder / "labels" / split).mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n\n1 0.25  0.25 0.5 0.5 \n")
    (folder / "labels" / "train" / "b.txt").write_text("1 0.1 0.2 0.5 0.9 0.3 0.5\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n")
    return folder


def write(root: Path, text: str, name: str = "a") -> None:
    (root / "labels" / "train" / f"{name}.txt").write_text(text)


def problems(root: Path, split: str = "train") -> list[str]:
    with pytest.raises(BadData) as error:
        read_data(root, split)
    return [re.sub(rf"{root}/", "", str(problem)) for problem in error.value.problems]


def test_boxes_and_polygons(root: Path) -> None:
    data = read_data(root, "train")
    assert (data.name, data.class_names, data.category_ids) == ("pets/train", ["cat", "dog"], [0, 1])
    assert [record.id for record in data.records] == ["images/train/a", "images/train/b"]
    two, one = (record.targets for record in data.records)
    assert two.boxes.tolist() == [[30, 10, 50, 30], [0, 0, 40, 20]]
    assert two.labels.tolist() == [0, 1]
    np.testing.assert_allclose(one.boxes.numpy(), [[8, 8, 40, 36]], rtol=1e-6)
    (nothing,) = read_data(root, "val").records
    assert len(nothing.targets) == 0  # there is no label file
    assert {record.size for record in data.records} == {SIZE}


def test_the_file_itself_may_be_named_and_valid_is_val(root: Path) -> None:
    assert len(read_data(root / "data.yaml", "train")) == 2
    (root / "data.yaml").write_text("train: images/train\nvalid: images/val\nnames: {0: cat, 1: dog}\n")
    assert len(read_data(root, "val")) == 1


@pytest.mark.parametrize(
    "places",
    [
        "path: .\ntrain: images/train",
        "path: /home/somebody/pets\ntrain: images/train",
        "train: ../images/train",  # Roboflow's
        "train: [images/train]",
        "train: train.txt",
        "path: ../pets\ntrain: train.txt",
    ],
)
def test_where_splits_are(root: Path, places: str) -> None:
    (root / "train.txt").write_text("./images/train/a.png\nimages/train/b.png\n")
    (root / "data.yaml").write_text(f"{places}\nnames: [cat, dog]\n")
    assert [record.id for record in read_data(root, "train").records] == ["images/train/a", "images/train/b"]


def test_other_layouts_of_labels() -> None:
    assert label_file(Path("pets/images/train/a.jpg")) == Path("pets/labels/train/a.txt")
    assert label_file(Path("images/pets/train/images/a.b.jpeg")) == Path("images/pets/train/labels/a.b.txt")  # the last
    assert label_file(Path("pets/images.jpg")) == Path("pets/images.txt")


def test_classes_in_another_order(root: Path) -> None:
    data, findings = read_yolo(root / "data.yaml", "train", ["dog", "cat"])
    assert (list(data.class_names), data.category_ids, findings) == (["dog", "cat"], [1, 0], [])
    assert data.records[0].targets.labels.tolist() == [1, 0]


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


def test_pictures_that_are_wrong(root: Path) -> None:
    (root / "images" / "train" / "a.png").write_bytes(b"none")
    picture(root / "images" / "train" / "b.jpg")
    found = problems(root)
    assert len(found) == 2
    assert "images/train/a.png: the picture cannot be read" in found[1]
    assert found[0] == "images/train/b.png: b.jpg has the same label file; rename one of the two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat", "is not YAML"),
        ("- a", "has no keys; it needs train, val and names"),
        ("train: images/train", "has no names; list the classes there: names: [cat, dog]"),
        ("train: images/train\nnames: [cat, cat]", "holds 'cat' twice; name each class once"),
        ("train: images/train\nnames: {a: cat}", "has the number 'a'"),
        ("train: images/train\nnames: [cat]\nnc: 2", "says nc: 2, and names has 1 name; correct one of them"),
        ("val: images/val\nnames: [cat]", "has no 'train' split; its splits are val"),
        ("train: pictures\nnames: [cat]", "says train: pictures, and there is no"),
        ("train: labels\nnames: [cat]", "says train: labels, where there is no picture"),
        ("!!python/object/apply:os.system ['touch ran']", "is not YAML"),
    ],
)
def test_files_that_are_wrong(root: Path, text: str, message: str) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read_data(root, "train")
    assert str(error.value).startswith(str(root))
    assert message in str(error.value)


def test_which_file_is_taken(root: Path, tmp_path: Path) -> None:
    assert yolo_file(root) == root / "data.yaml"
    (root / "hyperparameters.yaml").write_text("lr: 1")
    assert yolo_file(root) == root / "data.yaml"
    (root / "data.yaml").rename(root / "pets.yaml")
    assert yolo_file(root) is None
    (root / "hyperparameters.yaml").unlink()
    assert yolo_file(root) == root / "pets.yaml"
    assert yolo_file(tmp_path) is None


def test_a_turned_picture_is_annotated_as_it_is_shown(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "images" / "train" / "a.png", exif=exif)
    record = read_data(root, "train").records[0]
    assert record.size == SIZE[::-1]
    assert record.targets.boxes[0].tolist() == [15, 20, 25, 60]


def test_it_can_be_trained_on(root: Path) -> None:
    made = check_settings({"data": {"root": str(root)}}, "test")
    training, validation = read_splits(made.data)
    assert (len(training), training.name) == (2, "pets/train")
    assert validation is not None
    assert validation.name == "pets/val"


def test_the_same_boxes_as_another_library_writes(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    generator, pictures, annotations = np.random.default_rng(0), {}, {}
    for i in range(5):
        path = str(picture(tmp_path / "made" / f"{i}.png", (100 + i, 200)))
        corners = np.sort(generator.uniform(0, 100, (4, 2, 2)), axis=1)
        pictures[path] = np.asarray(Image.open(path))
        annotations[path] = supervision.Detections(corners.reshape(4, 4), class_id=np.array([0, 1, 2, 1]))
    theirs = supervision.DetectionDataset(["a", "b", "c"], list(pictures), annotations)
    theirs.as_yolo(str(tmp_path / "y" / "images"), str(tmp_path / "y" / "labels"), str(tmp_path / "y" / "data.yaml"))
    text = (tmp_path / "y" / "data.yaml").read_text()
    (tmp_path / "y" / "data.yaml").write_text(f"train: images\n{text}")
    data = read_data(tmp_path / "y", "train")
    assert list(data.class_names) == ["a", "b", "c"]
    for record in data.records:
        (known,) = (value for path, value in annotations.items() if Path(path).name == record.path.name)
        np.testing.assert_allclose(record.targets.boxes.numpy(), known.xyxy, atol=0.01)
        assert record.targets.labels.tolist() == known.class_id.tolist()


def test_pictures_and_label_files_that_are_alone(root: Path) -> None:
    write(root, "0 0.5 0.5 0.25 0.5", "lost")
    write(root, "cat\ndog", "classes")
    assert problems(root) == [
        "labels/train/lost.txt: there is no picture of this name; put it there, or delete this file"
    ]
    (root / "list.txt").write_text("images/train/a.png\n")
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("train: images/train", "train: list.txt"))
    assert len(read_data(root, "train")) == 1  # a list may take some of a folder's
    (root / "data.yaml").write_text(text)
    (root / "labels").rename(root / "label")
    assert problems(root) == [
        "data.yaml: none of its 2 pictures has a label file; put them there, the first as labels/train/a.txt"
    ]
