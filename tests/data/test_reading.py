"""One door for both formats: it tells them apart, and tells all that is wrong at once."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rcnnkit.config_files import check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.data.reading import join_data, read_data, read_findings
from rcnnkit.data.records import BadData
from rcnnkit.training.detection import read_splits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "digits"
    write_digits(root, train=4, val=2, size=(96, 112))
    return root


def test_both_formats_of_the_same_pictures_agree(digits: Path) -> None:
    voc = read_data(digits, "train")
    by_file = read_data(digits / "annotations/instances_train.json", "not looked at")
    coco = read_data(digits, "annotations/instances_train.json")
    for data in (coco, by_file):
        assert (data.name, data.class_names, data.category_ids) == (voc.name, voc.class_names, voc.category_ids)
        for one, two in zip(voc.records, data.records, strict=True):
            assert (one.path, one.size, int(one.id)) == (two.path, two.size, two.id)
            assert one.targets.boxes.tolist() == two.targets.boxes.tolist()
            assert one.targets.labels.tolist() == two.targets.labels.tolist()


def test_bad_data_is_raised_or_left_out(bccd: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadData, match=r"00343\.xml: object 3: xmin 181 = xmax 181") as error:
        read_data(bccd, "train")
    assert len(error.value.problems) == 1
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        data = read_data(bccd, "train", skip_bad=True)
    assert len(data) == 205
    assert "bccd/train: left out 1 object and 0 pictures, for 1 problem" in caplog.text


def test_clean_data(coco256: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        data = read_data(coco256, "annotations/instances_train2017.json")
    assert (len(data), caplog.text) == (128, "")


def test_nothing_left_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    file.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}))
    with pytest.raises(BadData, match=r"none of its 1 picture was found"):
        read_data(file, "", skip_bad=True)


def test_wrong_places(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_data(tmp_path / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match=r"no annotations in a format that is known .*It is empty"):
        read_data(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"annotations/instances_train\.json, annotations/instances_val\.json"):
        read_data(digits, "annotations/instances_test.json")
    with pytest.raises(FileNotFoundError, match="the splits there are train, val"):
        read_data(digits, "test")
    with pytest.raises(
        FileNotFoundError,
        match=r"000001\.jpg is not an annotation file of a format that is known; name one, or a folder",
    ):
        read_data(digits / "JPEGImages/000001.jpg", "train")
    os.mkfifo(tmp_path / "fifo.json")
    for place in ((tmp_path, "fifo.json"), (tmp_path / "fifo.json", "")):
        with pytest.raises(ValueError, match=r"fifo\.json is not a regular file"):
            read_data(*place)
    with pytest.raises(ValueError, match=r"data\.images or --images, .*, is for formats that name"):
        read_data(digits, "train", images=digits)


def test_class_names_reach_both_readers(digits: Path) -> None:
    names = ["7", "6", "4", "3", "0"]
    for split in ("val", "annotations/instances_val.json"):
        plain, turned = read_data(digits, split), read_data(digits, split, class_names=names)
        assert [4 - label for label in plain.records[0].targets.labels.tolist()] == (
            turned.records[0].targets.labels.tolist()
        )


def test_a_split_may_lie_in_a_folder_below(digits: Path) -> None:
    below = read_data(digits.parent, "digits/train")
    assert below.name == "digits/train"
    assert [r.path for r in below.records] == [r.path for r in read_data(digits, "train").records]
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        read_data(digits.parent, "missing/train")


def test_several_as_one(digits: Path) -> None:
    train, val = read_data(digits, "train"), read_data(digits, "val")
    both = join_data([train, val])
    assert both.name == "digits/train + digits/val"
    assert both.flat.ids == [*train.flat.ids, *val.flat.ids]
    for one, other in zip(both.records, [*train.records, *val.records], strict=True):
        assert (one.path, one.size) == (other.path, other.size)
        assert one.targets.boxes.equal(other.targets.boxes)
    assert (both.class_names, both.category_ids) == (train.class_names, train.category_ids)
    with pytest.raises(ValueError, match="4 pictures of digits/train and digits/train have the same ids, such as 0000"):
        join_data([train, train])
    other_ids = replace(val, category_ids=[9, 8, 7, 6, 5])
    assert join_data([train, other_ids]).category_ids == train.category_ids
    names = ["7", "6", "4", "3", "0"]
    with pytest.raises(ValueError, match=r"has 7, 6, 4, 3, 0; read both with the same class_names"):
        join_data([train, read_data(digits, "val", class_names=names)])
    assert len(join_data([read_data(digits, split, class_names=names) for split in ("train", "val")])) == 6
    renamed = replace(train, records=[replace(record, id=f"again {record.id}") for record in train.records])
    with pytest.raises(ValueError, match=r"4 pictures are in several of .*1\.jpg; leave them out of all but one"):
        join_data([train, renamed])


def test_files_with_other_ids_for_their_classes_are_learnt_from_together(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split, turn in (("train", 0), ("val", 5)):
        content = json.loads((digits / f"annotations/instances_{split}.json").read_text())
        for category in content["categories"]:
            category["id"] = abs(turn - category["id"])
        for entry in content["annotations"]:
            entry["category_id"] = abs(turn - entry["category_id"])
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    names = ["0", "3", "4", "6", "7"]
    parts = [
        read_data(tmp_path, f"{split}.json", images=digits / "JPEGImages", class_names=names)
        for split in ("train", "val")
    ]
    assert parts[0].category_ids != parts[1].category_ids
    both = join_data(parts)
    expected = [read_data(digits, split) for split in ("train", "val")]
    assert [record.targets.labels.tolist() for record in both.records] == [
        record.targets.labels.tolist() for data in expected for record in data.records
    ]


def test_what_is_odd_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_digits(tmp_path, train=2, val=1, size=(96, 112))
    file = tmp_path / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    content["annotations"] += [first | {"id": 100}, first | {"id": 101}]
    file.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        data = read_data(tmp_path, "annotations/instances_train.json")
    assert sum(len(record.targets) for record in data.records) == len(content["annotations"])
    assert [record.getMessage() for record in caplog.records] == [
        f"{data.name}: an object that is annotated twice (2 times); the first: {file}: annotation 100 (image 1): its"
        " box and class are those of annotation 1 (image 1) too; delete one"
    ]


def test_what_was_recognised_is_logged(digits: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rcnnkit"):
        data = read_data(digits, "annotations/instances_val.json")
    objects = sum(len(record.targets) for record in data.records)
    assert caplog.messages == [f"digits/val: read as COCO: 2 pictures, {objects} objects, 5 classes"]
    assert caplog.records[0].levelno == logging.INFO


def test_a_format_is_chosen(digits: Path) -> None:
    assert read_data(digits, "val").records[0].id == "000005"  # of VOC and COCO, VOC's lists are called so
    assert read_data(digits, "val", format="coco").records[0].id == 5
    assert read_data(digits, "val", format="voc").records[0].id == "000005"
    with pytest.raises(FileNotFoundError, match=r'no annotations of the format "yolo" \(a data\.yaml, or .*It holds '):
        read_data(digits, "val", format="yolo")
    with pytest.raises(ValueError, match="'pascal' is not a format; the formats are auto, voc"):
        read_data(digits, "val", format="pascal")


def test_several_formats_without_names_for_their_splits(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text((digits / "annotations/instances_train.json").read_text())
    (tmp_path / "train.csv").write_text("image,x1,y1,x2,y2,class\n000001.jpg,1,2,9,9,3\n")
    with pytest.raises(ValueError, match=r"several formats: COCO .* and a table .*; choose one: data\.format = "):
        read_data(tmp_path, "train", images=digits / "JPEGImages")
    assert len(read_data(tmp_path, "train", format="table", images=digits / "JPEGImages")) == 1
    assert len(read_data(tmp_path, "train.json", images=digits / "JPEGImages")) == 4
    with pytest.raises(FileNotFoundError, match=r"has no split 'val'; its splits are train \(train\.json\)"):
        read_data(tmp_path, "val", format="coco", images=digits / "JPEGImages")


def test_class_lists_that_disagree_are_reported_before_training(digits: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        content = json.loads((digits / f"annotations/instances_{split}.json").read_text())
        if split == "val":
            content["categories"][2]["name"] = "vier"
        else:
            content["annotations"][0]["bbox"] = [1, 1, 0, 5]
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    about = {"root": str(tmp_path), "images": str(digits / "JPEGImages"), "class_names": ["0", "3", "4", "6", "7"]}
    with pytest.raises(BadData) as error:
        read_splits(check_settings({"data": about}, "test").data)
    assert len(error.value.problems) == 2
    assert "leaves the box no width" in str(error.value)
    assert "of this class, which is not one of 0, 3, 4, 6, 7; add it to data.class_names" in str(error.value)
    with pytest.raises(BadData) as again:  # the classes of the training split are known, although some of it is bad
        read_splits(check_settings({"data": about | {"class_names": None}}, "test").data)
    assert again.value.problems == error.value.problems
    (tmp_path / "val.json").unlink()
    with pytest.raises(BadData) as without:
        read_splits(check_settings({"data": about | {"val": "val.json"}}, "test").data)
    assert without.value.name.endswith(f" and {tmp_path.name}/val.json")
    missing, bad = without.value.problems
    assert (missing.where, bad) == ("split 'val.json'", error.value.problems[0])
    assert f"there is no {tmp_path / 'val.json'}; the .json files there are train.json" in missing.message


def test_problems_come_with_the_data_and_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_digits(tmp_path / "data", train=2, val=1, size=(96, 96))
    file = next((tmp_path / "data" / "Annotations").glob("000001.xml"))
    file.write_text("<annotation>")
    data, findings = read_findings(tmp_path / "data", "train")
    assert [record.id for record in data.records] == ["000002"]
    (problem,) = findings
    assert problem.file == str(file)
    assert (findings.objects, findings.pictures) == (0, 1)
    assert caplog.records == []
    with pytest.raises(BadData, match="this is not XML"):
        read_data(tmp_path / "data", "train")
