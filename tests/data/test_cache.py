"""What was read once is mapped, for as long as it is true."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rcnnkit.data import cache, checks, reading
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData, Dataset

PICTURES = 6


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few pictures, which here are enough to be kept."""
    for module in (cache, checks):
        monkeypatch.setattr(module, "FROM", 2)
    monkeypatch.setenv("RCNNKIT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    for number in range(PICTURES):
        cv2.imwrite(str(root / f"{number}.jpg"), np.full((30, 40, 3), 40 * number, np.uint8))
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 30, "width": 40} for i in range(PICTURES)]
    boxes = [{"id": i, "image_id": i % 4, "category_id": 5, "bbox": [i, 2, 8, 9]} for i in range(9)]
    write(root, images, [*boxes, boxes[0] | {"id": 9}])
    return root


def write(root: Path, images: list[dict[str, object]], boxes: list[dict[str, object]]) -> None:
    content = {"images": images, "annotations": boxes, "categories": [{"id": 5, "name": "cell"}]}
    (root / "train.json").write_text(json.dumps(content))


def seen(data: Dataset) -> list[object]:
    return [(each.id, each.path, each.size, each.targets.boxes.tolist()) for each in data.records]


class Reads:
    """What was read since it was asked last, by whichever process: "file", and the names of pictures."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def note(self, name: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{name}\n")

    def __call__(self) -> list[str]:
        found = sorted(self.log.read_text().split()) if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return found


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads(tmp_path / "reads.txt")
    inner, look = reading.read_coco, checks.picture_size

    def read(*given: Any, **more: Any) -> Any:
        found.note("file")
        return inner(*given, **more)

    def look_at(path: Path) -> Any:
        found.note(path.name)
        return look(path)

    monkeypatch.setattr(reading, "read_coco", read)
    monkeypatch.setattr(checks, "picture_size", look_at)
    return found


ALL = [*(f"{number}.jpg" for number in range(PICTURES)), "file"]


def test_the_second_start_reads_nothing(data: Path, reads: Reads, caplog: pytest.LogCaptureFixture) -> None:
    first = read_data(data, "train")
    assert reads() == ALL
    said = [each.getMessage() for each in caplog.records]
    assert "an object that is annotated twice (1 time)" in said[0]
    caplog.clear()
    second = read_data(data, "train")
    assert reads() == []
    assert [each.getMessage() for each in caplog.records] == said
    assert seen(second) == seen(first)
    assert (second.name, second.class_names, second.category_ids) == (first.name, ["cell"], [5])


def test_what_changes_is_read_again(data: Path, reads: Reads) -> None:
    read_data(data, "train")
    assert reads() == ALL
    picture = data / "3.jpg"
    cv2.imwrite(str(picture), np.full((30, 40, 3), 255, np.uint8))
    os.utime(picture, ns=(0, 12345))
    read_data(data, "train")
    assert reads() == ["3.jpg", "file"]
    picture.write_bytes(picture.read_bytes()[:-200])
    with pytest.raises(BadData, match="the picture cannot be read"):
        read_data(data, "train")
    assert len(read_data(data, "train", skip_bad=True)) == PICTURES - 1  # a file with problems is not kept
    shutil.copy(data / "2.jpg", picture)
    assert len(read_data(data, "train")) == PICTURES
    reads()
    assert read_data(data, "train", class_names=["cell", "other"]).class_names == ["cell", "other"]
    assert reads() == ["file"]
    content = json.loads((data / "train.json").read_text())
    write(data, content["images"], content["annotations"][:3])
    assert len(read_data(data, "train").flat.objects) == 3
    assert len(list((data.parent / "cache" / "data").iterdir())) == 2  # of each question the last answer


def test_pictures_on_trust(data: Path, reads: Reads) -> None:
    (data / "4.jpg").write_bytes(b"damaged")
    assert len(read_data(data, "train", check_pictures=False)) == PICTURES
    assert reads() == ["file"]
    assert len(read_data(data, "train", check_pictures=False)) == PICTURES
    assert reads() == []
    with pytest.raises(BadData, match="cannot be read"):
        read_data(data, "train")


def test_nothing_is_kept_where_that_is_asked_for_or_cannot_be(
    data: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("", str(data / "train.json")):
        monkeypatch.setenv("RCNNKIT_CACHE", place)
        for _ in range(2):
            assert len(read_data(data, "train")) == PICTURES
            assert reads() == ALL
    assert not (data.parent / "cache").exists()


def test_a_damaged_cache_is_as_none(data: Path, reads: Reads) -> None:
    read_data(data, "train")
    for file in (data.parent / "cache").rglob("*"):
        if file.is_file():
            file.write_bytes(b"x" * 5000)
    reads()
    assert len(read_data(data, "train")) == PICTURES
    assert reads() == ALL
