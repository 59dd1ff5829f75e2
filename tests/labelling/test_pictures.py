import json
import shutil
from pathlib import Path

import pytest

from rcnnkit.data.records import BadData
from rcnnkit.labelling.pictures import read_any, with_detectors_classes, without
from tests.labelling.conftest import SIZES


def test_a_folder_of_pictures(folder: Path) -> None:
    dataset = read_any(folder)
    assert {str(r.path.relative_to(folder)): r.size for r in dataset.records} == SIZES
    assert (list(dataset.class_names), dataset.objects) == ([], 0)
    assert len(read_any(folder / "b.png")) == 1


def test_a_data_set(digits: Path) -> None:
    file = digits / "annotations" / "instances_val.json"
    assert len(read_any(file)) == len(read_any(digits, "val", format="coco")) == 4
    assert len(read_any(digits, format="voc")) == 8


def test_pictures_that_are_listed_alone(folder: Path, tmp_path: Path) -> None:
    """COCO's format without a single annotation."""
    listed = {
        "images": [{"id": 7, "file_name": "b.png"}],
        "annotations": [],
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}],
    }
    shutil.copy(folder / "b.png", tmp_path)
    (tmp_path / "listed.json").write_text(json.dumps(listed))
    dataset = read_any(tmp_path / "listed.json")
    assert dataset.flat.ids == [7]
    known = with_detectors_classes(dataset, ["cat", "owl", "dog"], [1, 9, 3])
    assert list(zip(known.class_names, known.category_ids, strict=True)) == [("dog", 5), ("cat", 9), ("owl", 10)]
    with pytest.raises(ValueError, match=r"has the classes dog, cat, and the detector does not know dog; it knows cat"):
        with_detectors_classes(dataset, ["cat"], [1])


def test_what_is_wrong(folder: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone does not exist; name a folder of pictures, or a data set"):
        read_any(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="holds no pictures"):
        read_any(tmp_path)
    with pytest.raises(ValueError, match=r"--split val is for data sets, and .* has no annotations; leave it out"):
        read_any(folder, "val")
    assert len(read_any(folder, format="voc")) == 4  # there is nothing to choose from
    with pytest.raises(FileNotFoundError, match='no annotations of the format "yolo"'):
        read_any(digits, format="yolo")
    (tmp_path / "torn.png").write_bytes((folder / "a.png").read_bytes()[:100])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(BadData, match="2 problems") as raised:
        read_any(tmp_path, skip_bad=True)
    assert str(raised.value).endswith("Fix them: without them, no picture is left.")
    shutil.copy(folder / "a.png", tmp_path)
    with pytest.raises(BadData, match=r"(?s)text\.jpg: .*torn\.png: "):
        read_any(tmp_path)
    assert [record.path.name for record in read_any(tmp_path, skip_bad=True).records] == ["a.png"]


def test_what_is_labelled_already(folder: Path) -> None:
    left = without(read_any(folder), read_any(folder / "deep" / ".." / "b.png"))
    assert [record.path.name for record in left.records] == ["a.png", "a.png", "d.png"]
    with pytest.raises(ValueError, match=r"is in .* too; there is nothing left to label"):
        without(read_any(folder / "a.png"), read_any(folder))
