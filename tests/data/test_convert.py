"""One data set in three formats: there and back is the same, and what cannot be kept is said."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.data.convert import convert
from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import read_layout
from rcnnkit.data.records import BadData, Dataset, Record
from rcnnkit.structures import Targets

NAMES, IDS = ["cat", "owl", "zebra"], [1, 2, 3]
Flat = dict[str, list[tuple[object, ...]]]


def add(root: Path, name: str, *objects: tuple[float, ...], key: int | str = "", turn: int = 0) -> Record:
    """A picture of 80 x 60 with objects (x1, y1, x2, y2, label); their flags may be put in by `replace`."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture, exif = Image.new("RGB", (80, 60)), Image.Exif()
    if turn:
        exif[0x0112] = turn
    picture.save(path, exif=exif)
    rows = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    return Record(key or path.stem, path, (60, 80), Targets(rows[:, :4], rows[:, 4].long()))


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, Dataset]:
    root = tmp_path / "from"
    train = [
        add(root, "one/a.jpg", (10.25, 5.125, 50.5, 25, 0), (0, 0, 80, 60, 2), (1 / 3, 2 / 3, 70.1, 59.9, 1), key=7),
        add(root, "two/a.jpg", (10, 5, 50, 25, 1), key=9),
        add(root, "z.c.png", key=4),
    ]
    val = [add(root, "val/A.JPG", (3, 4, 5.5, 60, 2), key=1)]
    return {"train": Dataset("x/train", train, NAMES, IDS), "val": Dataset("x/val", val, NAMES, IDS)}


def flat(splits: Mapping[str, Dataset]) -> Flat:
    """split/picture's number → its objects."""
    return {
        f"{split}/{number}": [
            (data.class_names[label], *(bool(flag) for flag in flags), *box)
            for label, box, *flags in zip(
                *(getattr(record.targets, name).tolist() for name in ("labels", "boxes", "crowd", "difficult")),
                strict=True,
            )
        ]
        for split, data in splits.items()
        for number, record in enumerate(sorted(data.records, key=lambda record: record.path.name.lower()))
    }


def same(one: Flat, other: Flat, within: float = 0.0) -> bool:
    assert one.keys() == other.keys()
    for key in one:
        assert [each[:3] for each in one[key]] == [each[:3] for each in other[key]]
        first, second = (np.array([each[3:] for each in many], float).reshape(-1, 4) for many in (one[key], other[key]))
        np.testing.assert_allclose(first, second, atol=within, rtol=0)
    return True


def there(splits: Mapping[str, Dataset], to: str, out: Path) -> dict[str, Dataset]:
    convert(splits, to, out)
    return read_layout(find_layout(out))


@pytest.mark.parametrize("way", ["coco voc coco", "voc coco voc", "voc yolo voc", "yolo coco yolo", "coco yolo coco"])
def test_there_and_back(splits: dict[str, Dataset], tmp_path: Path, way: str) -> None:
    formats = way.split()
    now = begun = there(splits, formats[0], tmp_path / "0")
    within = 0.001 if "yolo" in way else 0.0
    assert same(flat(splits), flat(begun), within)
    for number, to in enumerate(formats[1:], start=1):
        now = there(now, to, tmp_path / str(number))
        assert find_layout(tmp_path / str(number)).format == to
    assert same(flat(begun), flat(now), within)
    for split, data in now.items():
        assert list(data.class_names) == NAMES
        if way != "coco yolo coco":  # YOLO counts classes from 0
            assert data.category_ids == begun[split].category_ids
        assert [record.path.read_bytes() for record in data.records] == [
            record.path.read_bytes() for record in begun[split].records
        ]


def test_names_stay_unless_two_are_the_same(splits: dict[str, Dataset], tmp_path: Path) -> None:
    data = there(splits, "coco", tmp_path / "out")
    assert [record.path.name for record in data["train"].records] == ["a.jpg", "two_a.jpg", "z.c.png"]
    assert [record.path.name for record in data["val"].records] == ["val_A.JPG"]
    assert [record.id for record in data["train"].records] == [7, 9, 4]  # numbers are kept
    again = there({"train": splits["train"], "val": splits["train"]}, "yolo", tmp_path / "twice")
    names = [record.path.name for record in again["val"].records]
    assert names == ["from_z.c.png", "one_a.jpg", "two_a-2.jpg"]


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_flags_ids_and_areas(splits: dict[str, Dataset], tmp_path: Path, to: str) -> None:
    first = splits["train"].records[0]
    flags = {"crowd": [1, 0, 0], "difficult": [0, 1, 1], "truncated": [0, 0, 1]}
    given: dict[str, Any] = {name: torch.tensor(values, dtype=torch.bool) for name, values in flags.items()}
    targets = replace(first.targets, **given, areas=torch.tensor([9.0, 4800, 1000]))
    thin = add(tmp_path, "thin.jpg", (5, 5, 5.5, 30, 0), (1, 1, 9, 9, 0), key=11)
    records = [replace(first, targets=targets), thin]
    data = Dataset("x/train", records, ["zebra", "cat", "owl", "emu"], [10, 20, 30, 40])
    done = convert({"train": data}, to, tmp_path / "out")
    (read,) = read_layout(find_layout(tmp_path / "out")).values()
    picture, narrow = sorted(read.records, key=lambda record: len(record.targets), reverse=True)
    kept = [picture.targets.crowd, picture.targets.difficult, picture.targets.truncated]
    if to == "coco":
        assert [each.tolist() for each in kept] == [[True, False, False], [False, True, True], [False, False, True]]
        assert picture.targets.areas.tolist() == [9, 4800, 1000]
        assert (read.class_names, read.category_ids) == (["zebra", "cat", "owl", "emu"], [10, 20, 30, 40])
        assert done.notes == [
            "the flag `difficult` of 2 objects is kept; most other tools do not read it",
            "the flag `truncated` of 1 object is kept; most other tools do not read it",
        ]
    elif to == "voc":
        assert [each.tolist() for each in kept] == [[False] * 3, [True] * 3, [False, False, True]]
        assert len(narrow.targets) == 1
        assert (read.class_names, read.category_ids) == (["cat", "owl", "zebra"], [1, 2, 3])
        assert done.notes == [
            "1 object left out: at most 1 pixel wide or high, which VOC cannot express",
            "1 crowd region written as difficult objects, which are ignored likewise",
            "3 objects written with decimals, which rcnnkit reads exactly; tools that read only whole numbers move such"
            " boxes by up to a pixel",
            "1 class without objects lost: VOC has no list of classes",
            "the classes have new ids, 1, 2, 3, …, in the order of their names",
            "the area of the outline of 2 objects is lost",
            "the pictures lose their ids; their names take the place",
        ]
    else:
        assert [len(record.targets) for record in read.records] == [2, 2]
        assert not torch.cat(kept).any()
        assert (read.class_names, read.category_ids) == (["zebra", "cat", "owl", "emu"], [0, 1, 2, 3])
        assert done.notes == [
            "the flag difficult of 2 objects is lost",
            "the flag truncated of 1 object is lost",
            "1 crowd region left out, since YOLO would take them for objects",
            "the classes have new ids, 0, 1, 2, …, in the same order",
            "the area of the outline of 2 objects is lost",
            "the pictures lose their ids; their names take the place",
        ]


@pytest.mark.parametrize("turn", [1, 3, 5, 6, 7, 8])
def test_pictures_annotated_as_they_are_stored(tmp_path: Path, turn: int) -> None:
    """YOLO's boxes are of the picture as it is shown: the same pixels are in them."""
    record = add(tmp_path, "a.png", (8, 6, 24, 12, 0), turn=turn)
    stored = np.zeros((60, 80), np.uint8)
    stored[6:12, 8:24] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored).save(record.path, exif=exif)
    (read,) = there({"train": Dataset("x", [record], ["cat"], [1])}, "yolo", tmp_path / "out").values()
    with Image.open(record.path) as picture:
        from PIL import ImageOps

        shown = np.asarray(ImageOps.exif_transpose(picture)) if turn >= 5 else stored
    x1, y1, x2, y2 = (round(v) for v in read.records[0].targets.boxes[0].tolist())
    assert shown[y1:y2, x1:x2].all()
    assert shown.sum() == shown[y1:y2, x1:x2].sum()


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_links(splits: dict[str, Dataset], tmp_path: Path, link: str) -> None:
    done = convert(splits, "voc", tmp_path / "out", link)
    for old, new in zip(splits["train"].records, done.splits["train"].records, strict=True):
        assert new.path.samefile(old.path)
        assert new.path.is_symlink() == (link == "symbolic")


def test_nothing_is_overwritten_and_nothing_half_remains(
    splits: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not an empty folder; choose another, nothing is overwritten"):
        convert(splits, "voc", out)
    (out / "mine.txt").unlink()
    splits["val"].records[0].path.unlink()
    with pytest.raises(OSError, match=r"A\.JPG cannot be put at .* free some space, or choose another --out"):
        convert(splits, "coco", out)
    assert list(out.iterdir()) == []
    with pytest.raises(OSError, match=r"cannot be put at"):
        convert(splits, "coco", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    with pytest.raises(OSError, match=r"\(Invalid cross-device link\); leave --link out, so that they are copied"):
        convert(splits, "coco", out, "hard")


def test_splits_with_different_classes_get_all_of_them(splits: dict[str, Dataset], tmp_path: Path) -> None:
    other = {"val": replace(splits["val"], class_names=["cat", "emu", "zebra"], category_ids=[1, 3, 2])}
    convert({"train": splits["train"]}, "coco", tmp_path / "a")
    convert(other, "coco", tmp_path / "b")
    (tmp_path / "b/annotations/instances_val.json").rename(tmp_path / "a/annotations/instances_val.json")
    for path in (tmp_path / "b/images").iterdir():
        path.rename(tmp_path / "a/images" / path.name)
    read = read_layout(find_layout(tmp_path / "a"))
    assert read["train"].class_names == read["val"].class_names == ["cat", "owl", "zebra", "emu"]
    assert read["train"].category_ids == read["val"].category_ids == [1, 2, 3, 4]
    assert [read["val"].class_names[label] for label in read["val"].records[0].targets.labels.tolist()] == ["zebra"]


def test_all_splits_are_checked_at_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("image,x1,y1,x2,y2,class\na.png,1,2,90,40,cat\n")
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    with pytest.raises(BadData, match=r"/train and .*/val has 2 problems"):
        read_layout(find_layout(tmp_path))


def test_rounding_of_shares_leaves_no_decimals_in_voc(tmp_path: Path) -> None:
    thing = add(tmp_path, "a.jpg", (1, 7, 33, 41, 0))
    boxes = torch.tensor([[1.0000001, 7.0004, 32.9996, 41.002]])
    near = replace(thing, targets=replace(thing.targets, boxes=boxes))
    made = convert({"train": Dataset("x", [near], ["cat"], [1])}, "voc", tmp_path / "voc", None)
    (note,) = [note for note in made.notes if "decimals" in note]
    assert note.startswith("1 object written with decimals")
    text = (tmp_path / "voc" / "Annotations" / "a.xml").read_text()
    assert [f"<{name}>{number}</{name}>" in text for name, number in (("xmin", 2), ("ymin", 8), ("xmax", 33))] == [
        True
    ] * 3


def test_a_class_that_xml_cannot_hold(tmp_path: Path) -> None:
    thing = add(tmp_path, "a.jpg", (1, 7, 33, 41, 0))
    with pytest.raises(ValueError, match=r"the class 'a\\x1bb' has the character '\\x1b', which XML does not allow"):
        convert({"train": Dataset("x", [thing], ["a\x1bb"], [1])}, "voc", tmp_path / "voc", None)
    assert not (tmp_path / "voc").exists()
