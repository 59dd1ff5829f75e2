import json
from pathlib import Path

import pytest

from tests.cli.commands import Command

CONFIGS = Path(__file__).parents[2] / "configs"


def test_crop_of_roboflows_files(
    rcnnkit: Command, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have one name in every split's folder, which is what tells them apart."""
    for split, ours in (("train", "train"), ("valid", "val")):
        (tmp_path / split).mkdir()
        content = (digits / f"annotations/instances_{ours}.json").read_text()
        (tmp_path / split / "_annotations.coco.json").write_text(content)
    pictures = ("--images", digits / "JPEGImages")
    assert rcnnkit("crop", tmp_path / "train/_annotations.coco.json", *pictures, "--out", tmp_path / "o") == 0
    monkeypatch.chdir(tmp_path / "valid")
    assert rcnnkit("crop", "_annotations.coco.json", *pictures, "--out", tmp_path / "o") == 0
    chosen = ("--split", "valid/_annotations.coco.json", "--out", tmp_path / "below")
    assert rcnnkit("crop", tmp_path, *pictures, *chosen) == 0
    folders = [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert folders == [str(tmp_path / name) for name in ("o/train", "o/valid", "below/valid")]


def test_crop_then_train_and_evaluate_a_classifier(
    rcnnkit: Command, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "annotations/instances_val.json"):
        assert rcnnkit("crop", digits, "--split", split, "--out", "cut", "--context", "0.1") == 0
    said = capsys.readouterr().out.split("wrote ")
    assert said[1].endswith("in cut/train\n")
    assert said[2].endswith("in cut/instances_val\n")
    assert rcnnkit("crop", digits, "--out", "cut") == 1
    assert "cut/train is not an empty folder" in capsys.readouterr().err
    config = CONFIGS / "classifier_resnet18_bccd.toml"
    changed = [
        "data.root=cut",
        "data.val=instances_val",
        "data.workers=0",
        "classifier.resize=36",
        "classifier.crop=32",
    ]
    options = ["train.iterations=2", "train.batch=4", "train.device=cpu"]
    assert rcnnkit("train", config, *changed, *options, "--out", "run") == 0
    assert "cut/instances_val: top1 0." in (shown := capsys.readouterr().out)
    assert "wrote run/best.safetensors" in shown
    best = ("evaluate", "run/best.safetensors", "cut", "--split", "instances_val")
    assert rcnnkit(*best, "--json", "accuracy.json") == 0
    assert "mean of classes" in capsys.readouterr().out
    numbers = json.loads(Path("accuracy.json").read_text())
    assert numbers["pictures"] == sum(each["pictures"] for each in numbers["classes"])
    assert rcnnkit(*best, "--images", "cut") == 1
    assert (
        "holds a classifier, which looks at whole pictures in class folders; leave --images" in capsys.readouterr().err
    )
    assert rcnnkit(*best[:3], "--split", "test") == 1
    assert "the folders in cut are: instances_val, train" in capsys.readouterr().err
