"""YOLO's splits and names of classes, also as tools leave them that write no data.yaml."""

import re
from pathlib import Path

import pytest

from rcnnkit.config_files import check_settings
from rcnnkit.data.layout import Layout, find_layout
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData
from rcnnkit.data.yolo_labels import label_file
from rcnnkit.data.yolo_layout import yolo_file
from rcnnkit.training.detection import read_splits
from tests.data.yolo_files import pets, picture

NOTES = """{
  "categories": [
    {"id": 0, "name": "cat"},
    {"id": 1, "name": "dog"}
  ],
  "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"}
}"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pets(tmp_path / "pets")


def objects(root: Path, split: str = "train") -> dict[str, list[tuple[str, list[float]]]]:
    data = read_data(root, split)
    return {
        record.path.relative_to(root).as_posix(): [
            (data.class_names[label], [round(each, 3) for each in box])
            for box, label in zip(record.targets.boxes.tolist(), record.targets.labels.tolist(), strict=True)
        ]
        for record in data.records
    }


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


@pytest.mark.parametrize("names", ["both", "notes.json", "classes.txt"])
def test_label_studios_export(tmp_path: Path, names: str) -> None:
    """images/, labels/, classes.txt and notes.json."""
    root = tmp_path / "project-7"
    picture(root / "images" / "0a1b2c3d-a.png")
    (root / "labels").mkdir()
    (root / "labels" / "0a1b2c3d-a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.5 0.9 0.3 0.5")
    for name, text in (("classes.txt", "cat\ndog"), ("notes.json", NOTES)):
        if names in ("both", name):
            (root / name).write_text(text)
    assert find_layout(root) == find_layout(root, "yolo") == Layout(root, "yolo", {"train": "train"})
    assert find_layout(tmp_path).splits == {"train": "project-7/train"}
    found = {"images/0a1b2c3d-a.png": [("dog", [30, 10, 50, 30]), ("cat", [8, 8, 40, 36])]}
    assert objects(root) == found
    data = read_data(root, "train")
    assert (data.name, data.category_ids, data.records[0].id) == ("project-7/train", [0, 1], "images/0a1b2c3d-a")


def test_labels_beside_pictures(tmp_path: Path) -> None:
    """As LabelImg writes them: six decimals, and a classes.txt in the folder. One folder lies in another's images/."""
    root = tmp_path / "images" / "pets"
    for name in ("a", "b"):
        picture(root / f"{name}.png")
    (root / "a.txt").write_text("15 0.500000 0.500000 0.250000 0.500000\n")
    (root / "b.txt").write_text("")
    names = [f"class {number}" for number in range(15)]
    (root / "classes.txt").write_text("\n".join([*names, "cat"]) + "\n")
    assert find_layout(root) == Layout(root, "yolo", {"train": "train"})
    assert objects(root) == {"a.png": [("cat", [30, 10, 50, 30])], "b.png": []}
    (root / "labels").mkdir()
    for name in ("a.txt", "b.txt", "classes.txt"):  # saved into a folder of their own
        (root / name).rename(root / "labels" / name)
    assert objects(root) == {"a.png": [("cat", [30, 10, 50, 30])], "b.png": []}


@pytest.mark.parametrize("inside", ["{split}/{name}", "images/{split}/{name}", "{split}/images/{name}"])
def test_splits_that_are_folders(tmp_path: Path, inside: str) -> None:
    """Each has a classes.txt of its own, in the order that its classes were used in."""
    files = {}
    for split, name in (("train", "a"), ("valid", "b")):
        path = picture(tmp_path / inside.format(split=split, name=f"{name}.png"))
        label = label_file(path)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n")
        files[split] = label.parent / "classes.txt"
    files["train"].write_text("cat\ndog\n")
    files["valid"].write_text("dog\ncat\n")
    assert find_layout(tmp_path).splits == {"train": "train", "val": "valid"}
    (train,) = objects(tmp_path, "train").values()
    (val,) = objects(tmp_path, "val").values()
    assert train == [("cat", [30, 10, 50, 30]), ("dog", [0, 0, 40, 20])]
    assert val == [("dog", [30, 10, 50, 30]), ("cat", [0, 0, 40, 20])]
    training, validation = read_splits(check_settings({"data": {"root": str(tmp_path)}}, "test").data)
    assert validation is not None
    assert validation.class_names == training.class_names == ["cat", "dog"]
    assert validation.records[0].targets.labels.tolist() == [1, 0]
    files["valid"].write_text("dog\nowl\n")
    with pytest.raises(BadData, match=r"class 'owl': 1 object of this class .* and the classes are 0 dog, 1 owl"):
        read_splits(check_settings({"data": {"root": str(tmp_path)}}, "test").data)
    with pytest.raises(ValueError, match=r"has no 'test' split; its splits are train, valid"):
        read_data(tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "", "classes.txt has no names; write one a line"),
        ("classes.txt", "cat\n\ndog\n", "classes.txt: line 2 is empty; write the name of class 1"),
        ("classes.txt", "cat\ncat\n", "classes.txt: names holds 'cat' twice; name each class once"),
        ("notes.json", '{"info": {}}', "notes.json has no list of categories with names; write the names into cla"),
        ("notes.json", '{"categories": [{"id": "a", "name": "cat"}]}', "names has the number 'a'; count from 0"),
        ("notes.json", "", "notes.json is empty (0 bytes); export it again, or delete it"),
    ],
)
def test_names_that_are_wrong(root: Path, name: str, text: str, message: str) -> None:
    (root / "data.yaml").unlink()
    (root / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_data(root, "train")


def test_other_text_files_are_not_labels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "list.txt").write_text("000001 1\n")
    with pytest.raises(FileNotFoundError, match=r"in a format that is known .*It holds 2 \.txt, 1 \.png"):
        find_layout(tmp_path)
