"""Class folders: what is found in them, what is wrong with them, and objects cut into them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.data.class_folders import Example, read_class_folders, read_class_splits, write_class_folders
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData, Dataset, Record
from rcnnkit.images import read_picture
from rcnnkit.structures import Targets


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes; one has a picture in a folder of its own, and what computers leave behind is not a picture."""
    for name in ("train/dog/1.png", "train/dog/2.JPG", "train/cat/inside/3.png", "val/cat/4.png", "val/dog/5.png"):
        picture(tmp_path / name)
    for name in ("train/dog/._1.png", "train/dog/notes.txt", "train/.cache/x.png", "train/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no picture")
    return tmp_path


def test_names_are_sorted_and_pictures_are_found(root: Path) -> None:
    data = read_class_folders(root, "train", skip_bad=False)
    assert data.name == f"{root.name}/train"
    assert data.class_names == ["cat", "dog"]
    assert data.records == [
        Example(root / "train/cat/inside/3.png", 0),
        Example(root / "train/dog/1.png", 1),
        Example(root / "train/dog/2.JPG", 1),
    ]
    both = read_class_folders(root, ["train", "val"], ["dog", "fox", "cat"], skip_bad=False)
    assert [record.label for record in both.records] == [2, 0, 0, 2, 0]  # in the order given
    assert both.category_ids == [1, 2, 3]


def test_everything_bad_in_both_splits_is_told_at_once(root: Path) -> None:
    whole = picture(root / "train/dog/cut.jpg").read_bytes()
    (root / "train/dog/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/cat/zero.png").touch()
    (root / "train/fox").mkdir()
    picture(root / "val/wolf/6.png")
    picture(root / "val/7.png")
    with pytest.raises(BadData) as bad:
        read_class_splits(root, "train", "val", skip_bad=False)
    first, *lines = str(bad.value).splitlines()
    assert first == f"{root.name}/train and {root.name}/val has 5 problems:"
    for file, words in [
        ("train/fox", "there is no picture of this class; give it some, or delete the folder"),
        ("train/cat/zero.png", "the picture file is empty (0 bytes); replace it"),
        ("train/dog/cut.jpg", "the picture cannot be read"),
        ("val", "there is 1 picture outside of any class's folder, such as 7.png; move or delete them"),
        ("val/wolf", "1 picture of a class that is not one of cat, dog, fox; rename the folder, or train with"),
    ]:
        assert any(line.startswith(f"  {root / file}: {words}") for line in lines), file


def test_what_is_bad_can_be_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "train/cat/zero.png").touch()
    (root / "train/fox").mkdir()
    picture(root / "val/wolf/6.png")
    training, validation = read_class_splits(root, "train", "val", skip_bad=True)
    assert validation is not None
    assert training.class_names == validation.class_names == ["cat", "dog"]
    assert (len(training), len(validation)) == (3, 2)
    assert "train: left out 1 picture, for 2 problems" in caplog.text
    assert "val: left out 1 picture, for 1 problem" in caplog.text


def test_a_class_that_only_one_split_shows(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(root / "train/fox/8.png")
    # No mistake: not every class need be validated.
    training, validation = read_class_splits(root, "train", "val", skip_bad=False)
    assert validation is not None
    assert training.class_names == validation.class_names == ["cat", "dog", "fox"]
    assert "val has no picture of fox" in caplog.text
    with pytest.raises(ValueError, match="train has no picture to learn wolf from"):
        read_class_splits(root, "train", "val", ["cat", "dog", "fox", "wolf"], skip_bad=False)
    assert read_class_splits(root, "train", "", skip_bad=False)[1] is None


def test_a_class_whose_pictures_are_all_bad_cannot_be_learnt(root: Path) -> None:
    (root / "train/cat/inside/3.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no picture to learn cat from"):
        read_class_splits(root, "train", "val", skip_bad=True)


def test_what_is_missing_is_named_with_what_is_there(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_class_folders(root / "none", "train", skip_bad=False)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*test; the folders in .* are: train, val"):
        read_class_folders(root, "test", skip_bad=False)
    with pytest.raises(ValueError, match="the split val is given twice"):
        read_class_folders(root, ["val", "train", "val"], skip_bad=False)
    picture(root / "flat/9.png")
    with pytest.raises(FileNotFoundError, match="holds no folder; it must have one for each class"):
        read_class_folders(root, "flat", skip_bad=False)
    with pytest.raises(ValueError, match="holds a name twice: cat, cat"):
        read_class_folders(root, "train", ["cat", "cat"], skip_bad=False)


def annotated(tmp_path: Path) -> Dataset:
    path = picture(tmp_path / "pictures" / "a.png", size=(40, 60))
    boxes = torch.tensor([[10.2, 5, 30, 25.5], [0, 0, 4, 8], [50, 30, 60, 40], [1, 1, 9, 9]])
    flags = {"difficult": torch.tensor([0, 0, 0, 1]).bool()}
    targets = Targets(boxes, torch.tensor([1, 0, 1, 1]), **flags)
    empty = picture(tmp_path / "pictures" / "b.png")
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    records = [Record(1, path, (40, 60), targets), Record(2, empty, (20, 30), nothing)]
    return Dataset("made", records, ["x", "y", "z"], [1, 2, 3])


def test_objects_are_cut_to_the_pixel(tmp_path: Path) -> None:
    data = annotated(tmp_path)
    assert write_class_folders(data, tmp_path / "out") == {"x": 1, "y": 2, "z": 0}
    pixels = read_picture(data.records[0].path)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert files == ["x/a_1.png", "y/a_0.png", "y/a_2.png"]  # the difficult one is left out
    np.testing.assert_array_equal(read_picture(tmp_path / "out/y/a_0.png"), pixels[5:26, 10:30])
    # a quarter of 4 × 8 and of 10 × 10 pixels on each side, as far as the picture goes
    write_class_folders(data, tmp_path / "wide", context=0.25)
    np.testing.assert_array_equal(read_picture(tmp_path / "wide/x/a_1.png"), pixels[0:10, 0:5])
    np.testing.assert_array_equal(read_picture(tmp_path / "wide/y/a_2.png"), pixels[27:40, 47:60])


def test_nothing_is_overwritten_and_names_are_checked_first(tmp_path: Path) -> None:
    data = annotated(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_class_folders(data, tmp_path / "mine")
    with pytest.raises(ValueError, match="context = -1"):
        write_class_folders(data, tmp_path / "out", context=-1)
    for name, fault in (
        ("a/b", "it holds a /"),
        ("..", "it begins with a dot"),
        ("", "it is empty"),
        ("cat\x1b[2J", "it holds control characters"),
        ("cat\n", "it holds control characters"),
        ("\u202etac", "it holds control characters"),
        ("\ud800", "it holds control characters"),
        ("Aux.x", "Windows has a device of that name"),
        ("é" * 128, "it is longer than 255 bytes"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole text is checked
            write_class_folders(Dataset("made", data.records, ["x", name, "z"], [1, 2, 3]), tmp_path / "out")
        assert str(caught.value) == (
            f"the class {name!r} cannot be a folder's name: {fault}; rename it in the annotations"
        )
    long = replace(data.records[0], path=tmp_path / f"{'a' * 250}.png")  # of whose first object the name has 256 bytes
    with pytest.raises(ValueError, match=r"the name of .*aaa\.png is too long for those of its objects; shorten it"):
        write_class_folders(Dataset("made", [*data.records, long], ["x", "y", "z"], [1, 2, 3]), tmp_path / "out")
    with pytest.raises(ValueError, match="two pictures are called a"):
        write_class_folders(Dataset("made", [data.records[0]] * 2, ["x", "y", "z"], [1, 2, 3]), tmp_path / "out")
    with pytest.raises(ValueError, match="made has no object to cut out in any of its 1 picture"):
        write_class_folders(Dataset("made", data.records[1:], ["x", "y", "z"], [1, 2, 3]), tmp_path / "out")
    second = picture(tmp_path / "pictures" / "c.png", size=(40, 60))
    records = [data.records[0], Record(3, second, (40, 60), data.records[0].targets)]
    second.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"c\.png cannot be decoded"):  # the first one has been cut by then
        write_class_folders(Dataset("made", records, ["x", "y", "z"], [1, 2, 3]), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "pictures"]


def test_blood_cells(bccd: Path, tmp_path: Path) -> None:
    data = read_data(bccd, "test")
    few = Dataset(data.name, data.records[:5], data.class_names, data.category_ids)
    written = write_class_folders(few, tmp_path / "cells" / "test")
    labels = torch.cat([record.targets.labels for record in few.records])
    assert list(written.values()) == torch.bincount(labels, minlength=3).tolist()
    again = read_class_folders(tmp_path / "cells", "test", skip_bad=False)
    assert again.class_names == [name for name in data.class_names if written[name]]
    assert len(again) == len(labels)
