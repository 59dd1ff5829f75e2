import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.benchmark.measure.pictures import read_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        Image.fromarray(np.full((20 + i, 40, 3), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_of_pictures(folder: Path) -> None:
    data, annotated = read_pictures(folder, "test", ["a", "b"], 0)
    assert not annotated
    assert [record.path.name for record in data.records] == [f"{i:02}.png" for i in range(12)]
    assert [record.size for record in data.records] == [(20 + i, 40) for i in range(12)]
    assert list(data.class_names) == ["a", "b"]
    fewer, _ = read_pictures(folder, "test", None, 10)
    chosen = [int(record.path.stem) for record in fewer.records]
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 11, 10)


def test_pictures_turned_by_exif_stay_upright(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(folder / "turned.jpg", exif=exif)
    data, _ = read_pictures(folder, "test", None, 0)
    assert data.records[-1].size == (50, 30)


def test_annotated_pictures(digits: Path, bccd: Path) -> None:
    data, annotated = read_pictures(bccd, "test", None, 15)
    assert annotated
    assert (len(data), len(data.class_names)) == (15, 3)
    assert all(len(record.targets) for record in data.records)
    with pytest.raises(ValueError, match="a benchmark needs at least 10"):
        read_pictures(digits / "annotations" / "instances_val.json", "", None, 0)


def test_pictures_of_a_coco_file_elsewhere(folder: Path) -> None:
    images = [{"id": i, "file_name": f"{i:02}.png", "height": 20 + i, "width": 40} for i in range(12)]
    file = folder.parent / "instances.json"
    box = {"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}
    content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    file.write_text(json.dumps(content))
    data, annotated = read_pictures(file, "", None, 0, folder)
    assert annotated
    assert [record.path for record in data.records] == [folder / f"{i:02}.png" for i in range(12)]
    with pytest.raises(ValueError, match=r"--images .* is for COCO's format, and .* is a folder of pictures; leave it"):
        read_pictures(folder, "", None, 0, folder)


def test_bad_input(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is neither a folder of pictures nor a COCO \.json file"):
        read_pictures(folder / "nowhere", "test", None, 0)
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no pictures"):
        read_pictures(folder / "empty", "test", None, 0)
    with pytest.raises(ValueError, match="9 pictures; a benchmark needs at least 10"):
        read_pictures(folder, "test", None, 9)
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:60])
    (folder / "05.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 pictures of .* cannot be read:\n  .*03\.png.*\n  .*05\.png is empty"):
        read_pictures(folder, "test", None, 0)
