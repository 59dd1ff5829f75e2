import json
import shutil
from pathlib import Path

import pytest

from rcnnkit.checking.check import check_data
from rcnnkit.checking.findings import KINDS, SEVERITIES
from rcnnkit.detectors.settings import DetectorSettings

SETTINGS = DetectorSettings()
DOC = Path(__file__).parents[2] / "docs" / "howto" / "check_data.md"


def test_clean_data_has_no_errors_and_no_warnings(digits: Path) -> None:
    checked = check_data(digits, {"train": "train", "val": "val"}, SETTINGS)
    assert checked.count("error") == checked.count("warning") == 0
    numbers = checked.to_json()["splits"]["train"]
    assert numbers["pictures"] == 8
    assert sum(numbers["classes"].values()) == numbers["objects"] == len(checked.splits["train"])


def test_the_worst_comes_first_and_json_holds_everything(digits: Path, tmp_path: Path) -> None:
    root = shutil.copytree(digits, tmp_path / "data")
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    first, second, *_ = content["annotations"]
    content["annotations"].append(first | {"id": 1000})
    second["bbox"][2] = 0
    file.write_text(json.dumps(content))
    checked = check_data(root, {"train": "annotations/instances_train.json"}, SETTINGS)
    severities = [SEVERITIES.index(each.kind.severity) for each in checked.findings]
    assert severities == sorted(severities)
    error, warning = checked.findings[:2]
    assert (error.kind.name, warning.kind.name) == (
        "stops-training",
        "object-twice",
    )  # said once, not by the reader, too
    assert json.loads(json.dumps(checked.to_json()))["findings"][0] == {
        "kind": "stops-training",
        "severity": "error",
        "split": "train",
        "file": str(file),
        "object": error.where,
        "message": error.message,
        "fix": error.kind.fix,
        "box": None,
    }
    assert "leaves the box no width" in error.message
    assert checked.to_json()["counts"]["error"] == 1


def test_a_split_that_cannot_be_read_is_a_finding(digits: Path) -> None:
    checked = check_data(digits, {"train": "train", "val": "nothing"}, SETTINGS)
    (error,) = [each for each in checked.findings if each.kind.severity == "error"]
    assert (error.kind.name, error.split, error.where) == ("unusable-split", "val", "split 'nothing'")
    assert "nothing.txt" in error.message
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        check_data(digits, {"train": "nothing"}, SETTINGS)


def test_leaving_out_is_not_advised_where_nothing_would_be_left(digits: Path, tmp_path: Path) -> None:
    root = shutil.copytree(digits, tmp_path / "data")
    for name in (root / "ImageSets" / "Main" / "val.txt").read_text().split():
        (root / "Annotations" / f"{name}.xml").write_text("<annotation>")
    found = check_data(root, {"train": "train", "val": "val"}, SETTINGS, format="voc").findings
    errors = [each for each in found if each.kind.severity == "error"]
    assert [(each.kind.name, each.split) for each in errors] == [("unusable-split", "val")] * 4
    assert "does not help" in errors[0].kind.fix


def test_a_class_that_training_does_not_know_is_an_error(digits: Path, tmp_path: Path) -> None:
    root = shutil.copytree(digits, tmp_path / "data")
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "zero"
    file.write_text(json.dumps(content))
    splits = {name: f"annotations/instances_{name}.json" for name in ("train", "val")}
    (error,) = [each for each in check_data(root, splits, SETTINGS).findings if each.kind.severity == "error"]
    assert "'zero'" in error.where
    assert "not one of 0, 3, 4, 6, 7" in error.message


def test_several_lists_are_learnt_from_together(digits: Path) -> None:
    checked = check_data(digits, {"train": ["train", "val"], "val": "val"}, SETTINGS)
    assert len(checked.splits["train"].dataset) == 12
    found = [each for each in checked.findings if each.kind.name == "same-in-two-splits"]
    assert len(found) == 4


def test_every_kind_is_explained() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert f"`{kind.name}`" in text, kind.name
        assert kind.title[0].isupper()
        assert kind.fix.endswith(".")


def test_pictures_that_no_split_has_are_a_note(digits: Path, tmp_path: Path) -> None:
    both, one = ({name: name for name in names} for names in (("train", "val"), ("train",)))
    assert [each for each in check_data(digits, both, SETTINGS).findings if each.kind.name == "in-no-split"] == []
    (note,) = (each for each in check_data(digits, one, SETTINGS).findings if each.kind.name == "in-no-split")
    assert note.message == f"in none of train: 4 pictures below {digits}; this is the first"
    assert Path(note.file).name == "000009.jpg"
    root = shutil.copytree(digits, tmp_path / "data")
    (root / "JPEGImages" / "000009.jpg").write_bytes(b"none")  # which is said already
    assert "in-no-split" not in {each.kind.name for each in check_data(root, both, SETTINGS).findings}
