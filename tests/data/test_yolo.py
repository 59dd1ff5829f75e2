"""YOLO's layout, against files written by hand, and what tools make of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.config_files import check_settings
from rcnnkit.data.layout import Layout, find_layout
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


def test_a_picture_without_a_label_file_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(root / "images" / "train" / "new.png")
    assert [len(record.targets) for record in read_data(root, "train").records] == [2, 1, 0]
    assert "a picture without a label file (1 time); the first: " in caplog.text
    assert "images/train/new.png: it counts as a picture without objects; if nobody has annotated" in caplog.text


NOTES = """{
  "categories": [
    {"id": 0, "name": "cat"},
    {"id": 1, "name": "dog"}
  ],
  "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"}
}"""


def objects(root: Path, split: str = "train") -> dict[str, list[tuple[str, list[float]]]]:
    data = read_data(root, split)
    return {
        record.path.relative_to(root).as_posix(): [
            (data.class_names[label], [round(each, 3) for each in box])
            for box, label in zip(record.targets.boxes.tolist(), record.targets.labels.tolist(), strict=True)
        ]
        for record in data.records
    }


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


def test_label_files_without_pictures(root: Path) -> None:
    """Label Studio exports labels alone, too."""
    (root / "data.yaml").unlink()
    for path in (root / "images").rglob("*.png"):
        path.unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(FileNotFoundError, match=r"no picture in .*images/train; put those that the label files belong"):
        read_data(root, "train")


def test_other_text_files_are_not_labels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "list.txt").write_text("000001 1\n")
    with pytest.raises(FileNotFoundError, match=r"in a format that is known .*It holds 2 \.txt, 1 \.png"):
        find_layout(tmp_path)
