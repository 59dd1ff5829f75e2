"""The embedded digits: what they promise about splits, counts, sizes, overlap and boxes."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from rcnnkit.boxes import iou
from rcnnkit.data.digits import CLASSES, Scene, Style, draw_scene, scan_indices, write_digits
from rcnnkit.data.reading import read_data


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    scans = scan_indices("val")
    return [draw_scene(np.random.default_rng((3, i)), scans, (160, 160)) for i in range(100)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "digits"
    write_digits(root, train=24, val=6)
    return root


def test_no_scan_is_in_both_splits() -> None:
    scans = load_digits()
    train, val = scan_indices("train", range(10)), scan_indices("val", range(10))
    assert sorted(i for split in (train, val) for of_class in split.values() for i in of_class) == list(range(1797))
    assert all((scans.target[indices] == digit).all() for digit, indices in train.items())
    looks = [{scans.images[i].tobytes() for of_class in split.values() for i in of_class} for split in (train, val)]
    assert not looks[0] & looks[1]


def test_scenes_use_only_the_scans_given(scenes: list[Scene]) -> None:
    target = load_digits().target
    allowed = {i for of_class in scan_indices("val").values() for i in of_class}
    for scene in scenes:
        assert set(scene.scans) <= allowed
        assert target[scene.scans].tolist() == scene.digits


def test_counts_sizes_and_classes(scenes: list[Scene]) -> None:
    assert {len(scene.boxes) for scene in scenes} == set(range(2, 9))
    boxes = np.concatenate([scene.boxes for scene in scenes])
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longer.min() >= 14
    assert longer.max() <= 70
    assert np.percentile(longer, 95) > 3 * np.percentile(longer, 5)
    assert {digit for scene in scenes for digit in scene.digits} == set(CLASSES)
    assert len(CLASSES) >= 5


def test_some_overlap_but_none_is_hidden(scenes: list[Scene]) -> None:
    touching = covered = 0
    for scene in scenes:
        boxes = torch.from_numpy(scene.boxes)
        touching += int((iou(boxes, boxes).fill_diagonal_(0) > 0).any())
        for index, mask in enumerate(scene.masks):
            hidden = (mask & scene.masks[index + 1 :].any(axis=0)).sum() / mask.sum()
            covered += hidden > 0
            assert hidden <= 0.25
    assert 20 <= touching <= 90
    assert covered >= 10


def test_boxes_are_tight_around_what_is_seen(scenes: list[Scene]) -> None:
    for scene in scenes:
        for index, (box, mask) in enumerate(zip(scene.boxes.astype(int), scene.masks, strict=True)):
            seen = mask & ~scene.masks[index + 1 :].any(axis=0)
            x1, y1, x2, y2 = box
            inside = seen[y1:y2, x1:x2]
            assert inside.sum() == seen.sum()
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_digits_stand_out_from_what_surrounds_them(scenes: list[Scene]) -> None:
    contrasts = []
    for scene in scenes:
        grey = scene.pixels @ np.array([0.299, 0.587, 0.114])
        anyone = np.any(scene.masks, axis=0)
        for index, (box, mask) in enumerate(zip(scene.boxes.astype(int), scene.masks, strict=True)):
            x1, y1, x2, y2 = box
            seen = mask & ~scene.masks[index + 1 :].any(axis=0)
            around = ~anyone[y1:y2, x1:x2]
            contrasts.append(abs(np.median(grey[seen]) - np.median(grey[y1:y2, x1:x2][around])))
    assert np.percentile(contrasts, 2) > 50


def test_written_as_both_formats(written: Path) -> None:
    defaults = inspect.signature(write_digits).parameters
    assert [defaults[name].default for name in ("train", "val")] == [256, 64]
    for split, pictures in (("train", 24), ("val", 6)):
        data = read_data(written, split)
        coco = read_data(written, f"annotations/instances_{split}.json")
        assert (len(data), list(data.class_names)) == (pictures, ["0", "3", "4", "6", "7"])
        assert data.category_ids == coco.category_ids == [1, 2, 3, 4, 5]
        for one, two in zip(data.records, coco.records, strict=True):
            assert one.path == two.path
            assert torch.equal(one.targets.boxes, two.targets.boxes)
            assert torch.equal(one.targets.labels, two.targets.labels)
    names = [set((written / f"ImageSets/Main/{split}.txt").read_text().split()) for split in ("train", "val")]
    assert not names[0] & names[1]


def test_files_show_the_scenes_drawn(written: Path) -> None:
    record = read_data(written, "train").records[11]
    scene = draw_scene(np.random.default_rng((0, 12)), scan_indices("train"), (160, 160))
    assert record.targets.boxes.tolist() == scene.boxes.tolist()
    assert [CLASSES[label] for label in record.targets.labels.tolist()] == scene.digits
    pixels = np.asarray(Image.open(record.path)).astype(int)
    assert np.abs(pixels - scene.pixels).mean() < 8  # JPEG's loss on noise


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        write_digits(tmp_path / name, train=3, val=2, size=(100, 130), seed=seed)

    def content(name: str) -> dict[str, bytes]:
        root = tmp_path / name
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert content("one") == content("two")
    assert len(content("one")) == 5 + 5 + 2 + 2
    assert content("one")["JPEGImages/000001.jpg"] != content("other")["JPEGImages/000001.jpg"]


def test_classes_and_refusals(tmp_path: Path) -> None:
    write_digits(tmp_path / "new", train=2, val=1, classes=(9, 1), size=(96, 96))
    data = read_data(tmp_path / "new", "train")
    assert list(data.class_names) == ["1", "9"]
    with pytest.raises(FileExistsError, match="new is not an empty folder"):
        write_digits(tmp_path / "new")
    for wrong, words in (
        ({"classes": (1, 1)}, "different digits"),
        ({"classes": (10,)}, "different digits"),
        ({"classes": ()}, "different digits"),
        ({"train": 0}, "train = 0"),
        ({"size": (160, 50)}, "too small"),
    ):
        with pytest.raises(ValueError, match=words):
            write_digits(tmp_path / "bad", **wrong)
    assert not (tmp_path / "bad").exists()
    with pytest.raises(ValueError, match="'test'"):
        scan_indices("test")


def test_digits_can_be_turned_further(tmp_path: Path) -> None:
    scans = scan_indices("val", [7])
    upright, turned = (
        [draw_scene(np.random.default_rng((5, i)), scans, (160, 160), Style(turn)).boxes for i in range(20)]
        for turn in (0, 90)
    )
    wider = [
        np.mean([(box[2] - box[0]) > (box[3] - box[1]) for boxes in some for box in boxes])
        for some in (upright, turned)
    ]
    assert wider[0] < 0.2
    assert wider[1] > 0.4  # a 7 on its side
    write_digits(tmp_path / "a", train=1, val=1, turn=20)
    write_digits(tmp_path / "b", train=1, val=1)
    assert (tmp_path / "a/JPEGImages/000001.jpg").read_bytes() == (tmp_path / "b/JPEGImages/000001.jpg").read_bytes()
    with pytest.raises(ValueError, match="turn = -1 degrees; give 0 to 180"):
        write_digits(tmp_path / "c", train=1, val=1, turn=-1)
