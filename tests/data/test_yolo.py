"""YOLO's layout, against files written by hand, and what tools make of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.config_files import check_settings
from rcnnkit.data.reading import read_data
from rcnnkit.data.yolo import read_yolo
from rcnnkit.training.detection import read_splits
from tests.data.yolo_files import SIZE, pets, picture, problems, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pets(tmp_path / "pets")


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


def test_classes_in_another_order(root: Path) -> None:
    data, findings = read_yolo(root / "data.yaml", "train", ["dog", "cat"])
    assert (list(data.class_names), data.category_ids, findings) == (["dog", "cat"], [1, 0], [])
    assert data.records[0].targets.labels.tolist() == [1, 0]


def test_pictures_that_are_wrong(root: Path) -> None:
    (root / "images" / "train" / "a.png").write_bytes(b"none")
    picture(root / "images" / "train" / "b.jpg")
    found = problems(root)
    assert len(found) == 2
    assert "images/train/a.png: the picture cannot be read" in found[1]
    assert found[0] == "images/train/b.png: b.jpg has the same label file; rename one of the two"


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


def test_label_files_without_pictures(root: Path) -> None:
    """Label Studio exports labels alone, too."""
    (root / "data.yaml").unlink()
    for path in (root / "images").rglob("*.png"):
        path.unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(FileNotFoundError, match=r"no picture in .*images/train; put those that the label files belong"):
        read_data(root, "train")
