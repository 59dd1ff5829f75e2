import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tomli_w
from PIL import Image

from rcnnkit import weights
from rcnnkit.cli import free_folder, main
from rcnnkit.detectors.build import build
from rcnnkit.detectors.settings import DetectorSettings

CONFIGS = Path(__file__).parents[1] / "configs"
Values = dict[str, dict[str, Any]]


def rcnnkit(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["rcnnkit", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def untrained(tiny: Values, tmp_path: Path) -> Path:
    """Weights that detect something, if nothing sensible."""
    values = {name: tiny[name] for name in ("model", "rpn", "input")}
    values["head"] = tiny["head"] | {"score_threshold": 0.01}
    settings = DetectorSettings.model_validate(values)
    path = tmp_path / "untrained.safetensors"
    weights.save(build(settings, ["0", "2", "3", "4", "6", "7"]).eval(), settings, path)
    return path


def test_train_evaluate_detect(
    tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(tomli_w.dumps(tiny))
    monkeypatch.chdir(tmp_path)
    assert rcnnkit(monkeypatch, "train", config, "train.iterations=2", "head.score_threshold=0.01") == 0
    out = capsys.readouterr().out
    assert "learning rate 0.0025 (0.02 stated for 16)" in out
    assert "wrote runs/tiny/best.safetensors" in out
    assert rcnnkit(monkeypatch, "train", config, "train.iterations=1") == 0  # the next run, beside it
    assert Path("runs/tiny-2/best.safetensors").exists()
    resume = ("train", "runs/tiny/settings.toml", "train.resume=runs/tiny", "train.iterations=3")
    assert rcnnkit(monkeypatch, *resume) == 0
    assert weights.read("runs/tiny/last.safetensors")[0]["training"]["iteration"] == 3
    capsys.readouterr()

    best = Path("runs/tiny/best.safetensors")
    assert rcnnkit(monkeypatch, "evaluate", best, digits, "--split", "val", "--json", "voc.json") == 0
    assert "VOC 11-point" in capsys.readouterr().out
    annotations = digits / "annotations" / "instances_val.json"
    assert rcnnkit(monkeypatch, "evaluate", best, annotations, "--json", "coco.json") == 0
    voc, coco = (json.loads(Path(f"{name}.json").read_text()) for name in ("voc", "coco"))
    assert voc["coco"] == coco["coco"]  # the same pictures in two formats
    assert voc["pictures"] == 4

    assert rcnnkit(monkeypatch, "detect", best, digits / "JPEGImages", "--out", "found", "--min-score", "0.01") == 0
    results = json.loads(Path("found/detections.json").read_text())
    assert results
    assert results[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert {Path(r["image_id"]).name for r in results} <= {p.name for p in (digits / "JPEGImages").iterdir()}
    first = digits / "JPEGImages" / "000001.jpg"
    drawn = np.asarray(Image.open("found/000001.jpg"), dtype=int)
    plain = np.asarray(Image.open(first), dtype=int)
    assert drawn.shape == plain.shape
    assert (np.abs(drawn - plain).max(axis=2) > 60).any()  # something was drawn


def test_detect_goes_on_after_a_bad_picture(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    grey = np.full((50, 70), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "a" / "same.png"), grey)
    cv2.imwrite(str(tmp_path / "b" / "same.png"), np.dstack([grey] * 4))
    (tmp_path / "cut.jpg").write_bytes(
        cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90, 3)))[1][:900]
    )
    files = [tmp_path / "a" / "same.png", tmp_path / "cut.jpg", tmp_path / "none.jpg", tmp_path / "b" / "same.png"]
    out = tmp_path / "out"
    assert rcnnkit(monkeypatch, "detect", untrained, *files, "--out", out) == 1
    captured = capsys.readouterr()
    assert "cut.jpg cannot be decoded" in captured.err
    assert "none.jpg: no such picture" in captured.err
    assert {p.name for p in out.iterdir()} == {"same.jpg", "same-2.jpg", "detections.json"}
    # nothing is overwritten
    before = (out / "detections.json").read_bytes()
    assert rcnnkit(monkeypatch, "detect", untrained, files[0], "--out", out) == 1
    assert "is there already" in capsys.readouterr().err
    assert (out / "detections.json").read_bytes() == before


def test_crop_then_train_and_evaluate_a_classifier(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "annotations/instances_val.json"):
        assert rcnnkit(monkeypatch, "crop", digits, "--split", split, "--out", "cut", "--context", "0.1") == 0
    said = capsys.readouterr().out.split("wrote ")
    assert said[1].endswith("in cut/train\n")
    assert said[2].endswith("in cut/instances_val\n")
    assert rcnnkit(monkeypatch, "crop", digits, "--out", "cut") == 1
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
    assert rcnnkit(monkeypatch, "train", config, *changed, *options, "--out", "run") == 0
    assert "cut/instances_val: top1 0." in (shown := capsys.readouterr().out)
    assert "wrote run/best.safetensors" in shown
    best = ("evaluate", "run/best.safetensors", "cut", "--split", "instances_val")
    assert rcnnkit(monkeypatch, *best, "--json", "accuracy.json") == 0
    assert "mean of classes" in capsys.readouterr().out
    numbers = json.loads(Path("accuracy.json").read_text())
    assert numbers["pictures"] == sum(each["pictures"] for each in numbers["classes"])
    assert rcnnkit(monkeypatch, *best, "--images", "cut") == 1
    assert (
        "holds a classifier, which looks at whole pictures in class folders; leave --images" in capsys.readouterr().err
    )
    assert rcnnkit(monkeypatch, *best[:3], "--split", "test") == 1
    assert "the folders in cut are: instances_val, train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "none.toml"], "none.toml: no such settings file"),
        (["train", "tiny.toml", "rpn.nms_iuo=0.5"], "rpn.nms_iuo is not a setting; did you mean rpn.nms_iou?"),
        (["train", "tiny.toml", "train.lr=fast"], "train.lr = 'fast': "),
        (["train", "tiny.toml", "data.root=nowhere"], "nowhere does not exist"),
        (["train", "tiny.toml", "data.train=some"], "some.txt"),
        (["train", "tiny.toml", "train.device=tpu"], 'device "tpu" cannot be used'),
        (["train", "tiny.toml", "--out", "full"], "full is no empty folder; choose another"),
        (["evaluate", "none.safetensors", "."], "none.safetensors: no such weights file"),
        (["evaluate", "half.safetensors", "."], "not a whole .safetensors file"),
        (["detect", "untrained.safetensors", "empty", "--out", "out"], "empty holds no pictures"),
        (["detect", "untrained.safetensors", "x.jpg", "--out", "out", "--precision", "int8"], "not one of auto"),
        (["evaluate", "untrained.safetensors", ".", "--json", "full/notes.txt"], "notes.txt is there already; choose"),
        (["evaluate", "untrained.safetensors", ".", "--json", "full"], "full is there already; choose another file"),
        (
            ["detect", "untrained.safetensors", "x.jpg", "--out", "tiny.toml"],
            "tiny.toml is a file; choose another",
        ),
        (["detect", "untrained.safetensors", "x.jpg", "--out", "out"], "x.jpg: no such picture"),
        (
            ["compress", "untrained.safetensors", "--rank", "fc6=4", "--out", "w.pth"],
            "w.pth must end with .safeten",
        ),
        (["demo", "--out", "out", "--device", "cuda:99"], 'device "cuda:99" cannot be used'),
        (["compress", "w", "--rank", "fc6=8", "--rank", "fc6=4", "--out", "out"], "fc6 is given twice: 8 and 4; which"),
        (["demo", "--out", "full"], "full is not empty"),
    ],
)
def test_errors_are_one_message_with_the_fix(
    tiny: Values,
    untrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(tomli_w.dumps(tiny))
    Path("half.safetensors").write_bytes(untrained.read_bytes()[:1000])
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    assert rcnnkit(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error
    assert Path("full/notes.txt").read_text() == "mine"
    assert not Path("out").exists()  # a corrected call is not refused for what this one left


def test_a_class_that_the_weights_do_not_know(
    tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    weights.save(build(settings, ["0", "2", "3", "4", "6"]), settings, tmp_path / "w.safetensors")
    assert rcnnkit(monkeypatch, "evaluate", tmp_path / "w.safetensors", digits, "--split", "val") == 1
    assert "7" in (error := capsys.readouterr().err)
    assert "0, 2, 3, 4, 6" in error


def test_scores_that_are_none_are_refused(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert rcnnkit(monkeypatch, "detect", untrained, "x.jpg", "--out", out, "--min-score", "nan") == 2
    assert "nan is not a finite number" in capsys.readouterr().err


def test_messages_in_a_pipe_are_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So that long paths in them can be searched for and copied."""
    words = "a path " * 40 + "with [brackets]"
    monkeypatch.setattr("rcnnkit.cli.app", lambda: logging.getLogger("rcnnkit").warning(words))
    main()
    assert f"WARNING {words}\n" in capsys.readouterr().err
    assert not logging.getLogger("rcnnkit").handlers  # of somebody who calls it in a process of his own


def test_free_folder(tmp_path: Path) -> None:
    assert free_folder(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    assert free_folder(tmp_path / "run") == tmp_path / "run"  # empty: nothing to lose
    (tmp_path / "run" / "x").touch()
    (tmp_path / "run-2").touch()
    assert free_folder(tmp_path / "run") == tmp_path / "run-3"


def test_help_in_a_process_of_its_own() -> None:
    shown = subprocess.run([sys.executable, "-m", "rcnnkit", "--help"], capture_output=True, text=True, check=True)
    for command in ("train", "evaluate", "detect", "crop", "demo"):
        assert command in shown.stdout
