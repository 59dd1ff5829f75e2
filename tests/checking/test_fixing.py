import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

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


WRONG = {  # boxes in a picture of 96 by 96 pixels -> what they are in a fixed copy
    (10.0, 20.0, 105.0, 40.0): (10, 20, 96, 40),
    (50.0, 60.0, 30.0, 30.0): (30, 30, 50, 60),
    (10.0, 20.0, 10.0, 40.0): None,
    (90.0, 20.0, 200.0, 40.0): None,
}
GOOD = (1.0, 2.0, 30.0, 40.0)  # of another picture, whose size is wrong
PICTURES = {"a": list(WRONG), "b": [GOOD]}
SIZES = {"a": (96, 96), "b": (97, 95)}


def as_coco(root: Path) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for key, (name, boxes) in enumerate(PICTURES.items()):
        width, height = SIZES[name]
        images.append({"id": key, "file_name": f"{name}.png", "width": width, "height": height})
        for x1, y1, x2, y2 in boxes:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": abs(x2 - x1) * abs(y2 - y1)}
            annotations.append({"id": len(annotations), "image_id": key, "category_id": 1} | box)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (root / "train.json").write_text(json.dumps(content))


def as_voc(root: Path) -> None:
    for name, boxes in PICTURES.items():
        things = "".join(
            f"<object><name>cat</name><bndbox><xmin>{x1 + (x1 < x2):g}</xmin><ymin>{y1 + (y1 < y2):g}</ymin>"
            f"<xmax>{x2 + (x1 > x2):g}</xmax><ymax>{y2 + (y1 > y2):g}</ymax></bndbox></object>"
            for x1, y1, x2, y2 in boxes
        )
        size = "<size><width>{}</width><height>{}</height></size>".format(*SIZES[name])
        (root / f"{name}.xml").write_text(f"<annotation><filename>{name}.png</filename>{size}{things}</annotation>")


def as_yolo(root: Path) -> None:
    for name, boxes in PICTURES.items():
        shares = [((x1 + x2) / 192, (y1 + y2) / 192, (x2 - x1) / 96, (y2 - y1) / 96) for x1, y1, x2, y2 in boxes]
        (root / f"{name}.txt").write_text("".join("0 {} {} {} {}\n".format(*each) for each in shares))
    (root / "classes.txt").write_text("cat\n")


def as_table(root: Path) -> None:
    rows = "".join(
        f"{name}.png,{x1},{y1},{x2},{y2},cat\n" for name, boxes in PICTURES.items() for x1, y1, x2, y2 in boxes
    )
    (root / "train.csv").write_text(f"image,x1,y1,x2,y2,class\n{rows}")


@pytest.mark.parametrize(("write", "sizes"), [(as_coco, 1), (as_voc, 1), (as_yolo, 0), (as_table, 0)])
def test_what_has_one_clear_answer_is_corrected(tmp_path: Path, write: Any, sizes: int) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for number, name in enumerate(PICTURES):
        Image.effect_noise((96, 96), 50 + number).save(root / f"{name}.png")
    write(root)
    plain = check(root)
    checked = check_data(root, find_layout(root).splits, DetectorSettings(), fix=True)
    texts = [str(each) for each in checked.findings if each.kind.severity == "error"]
    assert texts == [str(each) for each in plain.findings if each.kind.severity == "error"]
    assert len(texts) == 4 + sizes
    changes = write_fixed(checked, tmp_path / "fixed").lines["stops-training"]
    assert [line.partition(":")[0] for line in changes].count("left out") == 2
    assert sum(line.startswith("corrected: ") and "; now " in line for line in changes) == 2 + sizes
    assert sum(line.endswith("; now 96 wide and 96 high") for line in changes) == sizes
    assert any(line.endswith("; now x1 10, y1 20, x2 96, y2 40") for line in changes)
    records = {record.path.stem: record for record in read_data(tmp_path / "fixed", "train").records}
    assert [record.size for record in records.values()] == [(96, 96), (96, 96)]
    boxes = {name: sorted(map(tuple, record.targets.boxes.tolist())) for name, record in records.items()}
    assert boxes["a"] == [pytest.approx(box) for box in WRONG.values() if box]
    assert boxes["b"] == [pytest.approx(GOOD)]
    for record in records.values():
        areas = (record.targets.boxes[:, 2:] - record.targets.boxes[:, :2]).prod(dim=1)
        assert record.targets.areas.tolist() == pytest.approx(areas.tolist())
