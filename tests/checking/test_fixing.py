import json
import shutil
from pathlib import Path

import pytest
import torch

from rcnnkit.checking.check import Checked, check_data
from rcnnkit.checking.fixing import write_fixed
from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.settings import DetectorSettings


def check(root: Path) -> Checked:
    layout = find_layout(root)
    return check_data(layout.root, layout.splits, DetectorSettings())


@pytest.fixture
def faulty(digits: Path, tmp_path: Path) -> Path:
    """COCO's copy of the digits: a bad box, an object twice, a picture twice, one in two splits, two spellings."""
    root = shutil.copytree(digits, tmp_path / "data")
    shutil.rmtree(root / "ImageSets")
    shutil.rmtree(root / "Annotations")
    contents = {
        name: json.loads((root / f"annotations/instances_{name}.json").read_text()) for name in ("train", "val")
    }
    train, val = contents.values()
    for content in contents.values():
        next(each for each in content["categories"] if each["name"] == "7")["name"] = "seven"
        content["categories"].append({"id": 99, "name": "Seven", "supercategory": "none"})
    seven = next(each["id"] for each in train["categories"] if each["name"] == "seven")
    next(each for each in train["annotations"] if each["category_id"] == seven)["category_id"] = 99
    train["annotations"].append(train["annotations"][0] | {"id": 1000})
    train["annotations"].append(train["annotations"][0] | {"id": 1001, "bbox": [5, 5, 0, 10]})
    for key, image, content in ((2000, train["images"][1], train), (2001, train["images"][2], val)):
        old = next(root.rglob(Path(image["file_name"]).name))
        shutil.copyfile(old, old.with_name(f"again{key}.jpg"))
        name = str(Path(image["file_name"]).with_name(f"again{key}.jpg"))
        content["images"].append(image | {"id": key, "file_name": name})
    for name, content in contents.items():
        (root / f"annotations/instances_{name}.json").write_text(json.dumps(content))
    return root


def test_a_fixed_copy_has_none_of_the_faults(faulty: Path, tmp_path: Path) -> None:
    before = check(faulty)
    content = {path: path.read_bytes() for path in sorted(faulty.rglob("*")) if path.is_file()}
    changes = write_fixed(before, tmp_path / "fixed")
    assert {path: path.read_bytes() for path in sorted(faulty.rglob("*")) if path.is_file()} == content
    assert {kind: len(lines) for kind, lines in changes.lines.items()} == {
        "stops-training": 1,
        "same-picture": 1,
        "same-in-two-splits": 1,
        "class-spelt-twice": 1,
        "object-twice": 1,
    }
    after = check(tmp_path / "fixed")
    assert after.count("error") == after.count("warning") == 0
    assert list(after.splits["train"].dataset.class_names) == ["0", "3", "4", "6", "seven"]
    assert [len(after.splits[name].dataset) for name in ("train", "val")] == [7, 5]
    old = {record.path.name: record for record in before.splits["train"].dataset.records}
    for record in after.splits["train"].dataset.records:
        boxes = old[record.path.name].targets.boxes
        if record.path.name == before.splits["train"].dataset.records[0].path.name:
            assert len(record.targets) == len(boxes) - 1
        else:
            assert torch.equal(record.targets.boxes, boxes)
        assert record.path.read_bytes() == old[record.path.name].path.read_bytes()


def test_what_was_changed_is_written_down(faulty: Path, tmp_path: Path) -> None:
    checked = check(faulty)
    write_fixed(checked, tmp_path / "fixed")
    lines = (tmp_path / "fixed" / "changes.txt").read_text().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("stops-training: left out: ")
    assert "annotation 1001" in lines[0]
    assert "class-spelt-twice: class 'Seven' became 'seven', from which it differs in upper and lower case" in lines
    assert any(line.startswith("same-in-two-splits: left out: ") and " of train, which is " in line for line in lines)


def test_a_copy_without_changes(digits: Path, tmp_path: Path) -> None:
    checked = check_data(digits, {"train": "train"}, DetectorSettings())
    assert write_fixed(checked, tmp_path / "fixed").lines == {}
    assert (tmp_path / "fixed" / "changes.txt").read_text() == "nothing was changed\n"
    with pytest.raises(FileExistsError, match="is not an empty folder; choose another, nothing is overwritten"):
        write_fixed(checked, tmp_path / "fixed")


def test_flags_are_kept(digits: Path, tmp_path: Path) -> None:
    root = shutil.copytree(digits, tmp_path / "data")
    file = next((root / "Annotations").iterdir())
    file.write_text(file.read_text().replace("<difficult>0<", "<difficult>1<", 1))
    changes = write_fixed(check_data(root, {"train": "train", "val": "val"}, DetectorSettings()), tmp_path / "fixed")
    assert changes.lines == {}
    fixed = [read_data(tmp_path / "fixed", split) for split in ("train", "val")]
    assert sum(int(record.targets.difficult.sum()) for data in fixed for record in data.records) == 1


def test_pictures_of_one_name_are_all_kept(digits: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from rcnnkit.checking.objects import Objects

    checked = check_data(digits, {"train": "train"}, DetectorSettings())
    records = []
    for i, record in enumerate(checked.splits["train"].dataset.records[:4]):
        folder = tmp_path / "data" / str(i)
        folder.mkdir(parents=True)
        name = ("a.jpg", "a.jpg", "a-2.jpg", "a.jpg")[i]
        shutil.copyfile(record.path, folder / name)
        records.append(replace(record, path=folder / name))
    dataset = replace(checked.splits["train"].dataset, records=records)
    write_fixed(replace(checked, splits={"train": Objects.of(dataset)}), tmp_path / "fixed")
    copies = sorted((tmp_path / "fixed" / "train").iterdir())
    assert len(copies) == 4
    assert sorted(path.read_bytes() for path in copies) == sorted(record.path.read_bytes() for record in records)
