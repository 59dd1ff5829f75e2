"""`rcnnkit see`: the pictures that it writes, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit import weights
from rcnnkit.cli import main
from rcnnkit.detectors.build import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.drawing import draw_occlusion, draw_sheet, occlusion, strongest_examples

Values = dict[str, dict[str, Any]]

ALEXNET: Values = {
    "model": {"backbone": "alexnet"},
    "head": {"hidden": 8, "score_threshold": 0.01},
    "input": {"short_side": 96, "long_side": 96},
}


def rcnnkit(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of the command."""
    monkeypatch.setattr("sys.argv", ["rcnnkit", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def alexnet(tmp_path: Path) -> Path:
    """Weights of a Faster R-CNN on AlexNet, untrained: it detects something, if nothing sensible."""
    return saved(ALEXNET, tmp_path / "alexnet.safetensors")


def saved(values: Values, path: Path) -> Path:
    settings = DetectorSettings.model_validate(values)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(build(settings, ["cell", "disc"]).eval(), settings, path)
    return path


def test_channels(
    alexnet: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = digits / "JPEGImages"
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, folder, "--count", 2, "--out", "sheet.png") == 0
    assert "wrote sheet.png" in capsys.readouterr().out
    detector = weights.load(alexnet, for_training=True)
    examples = strongest_examples(detector, sorted(folder.iterdir()), "conv5", count=2)  # the last layer
    expected = draw_sheet(examples, "conv5", detector.preprocessing)
    np.testing.assert_array_equal(np.asarray(Image.open("sheet.png")), np.asarray(expected))

    before = Path("sheet.png").read_bytes()
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, folder, "--out", "sheet.png") == 1
    assert "sheet.png is there already" in capsys.readouterr().err
    assert Path("sheet.png").read_bytes() == before
    chosen = ("--layer", "conv2", "--channel", 5, "--channel", 3)
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, folder, *chosen, "--out", "two.png") == 0
    examples = strongest_examples(detector, sorted(folder.iterdir()), "conv2", channels=[5, 3])
    expected = draw_sheet(examples, "conv2", detector.preprocessing)
    np.testing.assert_array_equal(np.asarray(Image.open("two.png")), np.asarray(expected))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "conv51"], "alexnet.safetensors: the backbone has no layer 'conv51'; did you mean conv5?"),
        (["--layer", "conv5", "--channel", "256"], "conv5 has channels 0 to 255, not 256"),
        (["--out", "sheet.txt"], "sheet.txt does not end in one of .bmp, "),
        (["--out", "nowhere/sheet.png"], "nowhere is not a folder"),
    ],
)
def test_channels_that_there_are_not(
    alexnet: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "sheet.png"]
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, digits / "JPEGImages", *arguments, *out) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not Path("sheet.png").exists()


def test_channels_of_the_pictures_that_can_be_read(
    alexnet: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = digits / "JPEGImages" / "000001.jpg"
    Path("cut.jpg").write_bytes(whole.read_bytes()[:900])
    bad = ("cut.jpg", "none.jpg")
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, whole, *bad, "--count", 1, "--out", "some.png") == 1
    captured = capsys.readouterr()
    assert "wrote some.png" in captured.out
    assert "cut.jpg cannot be decoded" in captured.err
    assert "none.jpg: no such picture" in captured.err
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, whole, "--count", 1, "--out", "whole.png") == 0
    assert Path("some.png").read_bytes() == Path("whole.png").read_bytes()
    assert rcnnkit(monkeypatch, "see", "channels", alexnet, *bad, "--out", "none.png") == 1
    assert "no pictures to look through" in capsys.readouterr().err
    assert not Path("none.png").exists()


@pytest.mark.parametrize("channel", [[], ["--channel", "3"]])
def test_channels_of_numbers_that_are_none(
    channel: list[str],
    alexnet: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector, (about, _) = weights.load(alexnet, "cpu", for_training=True), weights.read(alexnet)
    detector.backbone.stages[4][0].weight.data[:] = torch.finfo(torch.float32).max  # finite, and sums of it are not
    file, out = tmp_path / "large.safetensors", tmp_path / "sheet.png"
    weights.save(detector, DetectorSettings.model_validate(about["settings"]), file)
    picture = digits / "JPEGImages" / "000001.jpg"
    assert rcnnkit(monkeypatch, "see", "channels", file, picture, "--out", out, *channel) == 1
    assert "large.safetensors: activations of conv5 are not finite" in capsys.readouterr().err
    assert not out.exists()


def test_channels_of_a_classifier(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "model": {"detector": "classifier", "backbone": "alexnet"},
        "head": {"hidden": 8},
        "classifier": {"resize": 96, "crop": 95},
    }
    file, picture = saved(values, tmp_path / "c.safetensors"), digits / "JPEGImages" / "000001.jpg"
    assert rcnnkit(monkeypatch, "see", "channels", file, picture, "--count", 2, "--out", "sheet.png") == 0
    classifier = weights.load_classifier(file)
    examples = strongest_examples(classifier, [picture], "conv5", count=2)
    expected = draw_sheet(examples, "conv5", classifier.preprocessing)
    np.testing.assert_array_equal(np.asarray(Image.open("sheet.png")), np.asarray(expected))
    assert rcnnkit(monkeypatch, "see", "occlusion", file, picture, "--out", "map.png") == 1
    assert "c.safetensors holds a classifier, and `rcnnkit see occlusion` is for detectors" in capsys.readouterr().err


def test_channels_of_a_resnet(
    tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resnet = saved({name: tiny[name] for name in ("model", "rpn", "head", "input")}, tmp_path / "w.safetensors")
    out = tmp_path / "sheet.png"
    assert rcnnkit(monkeypatch, "see", "channels", resnet, digits / "JPEGImages", "--out", out) == 1
    assert "w.safetensors: a deconvnet goes back through convolutions in a row" in capsys.readouterr().err


def test_occlusion(
    alexnet: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    detector, picture = weights.load(alexnet, precision="float32"), digits / "JPEGImages" / "000001.jpg"
    see = ("see", "occlusion", alexnet, picture, "--precision", "float32", "--square", 40, "--stride", 40)

    assert rcnnkit(monkeypatch, *see, "--out", "best.png") == 0
    (name, _, box), *_ = detector(picture)
    expected = occlusion(detector, picture, box, name, square=40, stride=40)
    out = capsys.readouterr().out
    assert f"{name} scores {expected.score:.3f}; with a square of 40 pixels, {expected.scores.min():.3f} to" in out
    same = np.abs(np.asarray(Image.open("best.png"), int) - np.asarray(draw_occlusion(expected), int)) <= 2
    assert same.mean() > 0.99  # convolutions of prepared detectors round otherwise, so a digit may differ

    assert rcnnkit(monkeypatch, *see, "--box", 10, 20, 50, 60, "--class", "disc", "--out", "box.png") == 0
    expected = occlusion(detector, picture, (10, 20, 50, 60), "disc", square=40, stride=40)
    assert f"disc scores {expected.score:.3f}; with a square of 40" in capsys.readouterr().out

    assert rcnnkit(monkeypatch, *see, "--out", "best.png") == 1
    assert "best.png is there already" in capsys.readouterr().err
    assert rcnnkit(monkeypatch, *see, "--class", "dics", "--out", "new.png") == 1
    assert "no class is called 'dics'; did you mean disc? The classes are cell, disc" in capsys.readouterr().err
    for box in ([], ["--box", 10, 20, 50, 60]):
        assert rcnnkit(monkeypatch, *see, "--class", "CELL", "--out", "new.png", *box) == 1
        assert "did you mean cell?" in capsys.readouterr().err
    Path("text.jpg").write_text("a cell and a disc")
    assert rcnnkit(monkeypatch, "see", "occlusion", alexnet, "text.jpg", "--out", "new.png") == 1
    assert "text.jpg cannot be decoded (no known kind of picture); copy" in capsys.readouterr().err
    nothing = saved(ALEXNET | {"head": {"hidden": 8, "score_threshold": 0.99}}, tmp_path / "n.safetensors")
    assert rcnnkit(monkeypatch, "see", "occlusion", nothing, picture, "--out", "new.png", "--class", "disc") == 1
    assert "nothing called disc is found in" in capsys.readouterr().err
    assert not Path("new.png").exists()
