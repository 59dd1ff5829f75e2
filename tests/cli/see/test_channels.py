from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit import weights
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.drawing import draw_sheet, strongest_examples
from tests.cli.commands import Command, Values, saved


def test_channels(
    rcnnkit: Command,
    alexnet: Path,
    digits: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = digits / "JPEGImages"
    assert rcnnkit("see", "channels", alexnet, folder, "--count", 2, "--out", "sheet.png") == 0
    assert "wrote sheet.png" in capsys.readouterr().out
    detector = weights.load(alexnet, for_training=True)
    examples = strongest_examples(detector, sorted(folder.iterdir()), "conv5", count=2)  # the last layer
    expected = draw_sheet(examples, "conv5", detector.preprocessing)
    np.testing.assert_array_equal(np.asarray(Image.open("sheet.png")), np.asarray(expected))

    before = Path("sheet.png").read_bytes()
    assert rcnnkit("see", "channels", alexnet, folder, "--out", "sheet.png") == 1
    assert "sheet.png is there already" in capsys.readouterr().err
    assert Path("sheet.png").read_bytes() == before
    chosen = ("--layer", "conv2", "--channel", 5, "--channel", 3)
    assert rcnnkit("see", "channels", alexnet, folder, *chosen, "--out", "two.png") == 0
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
    rcnnkit: Command,
    alexnet: Path,
    digits: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    out = [] if "--out" in arguments else ["--out", "sheet.png"]
    assert rcnnkit("see", "channels", alexnet, digits / "JPEGImages", *arguments, *out) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not Path("sheet.png").exists()


def test_channels_of_the_pictures_that_can_be_read(
    rcnnkit: Command,
    alexnet: Path,
    digits: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = digits / "JPEGImages" / "000001.jpg"
    Path("cut.jpg").write_bytes(whole.read_bytes()[:900])
    bad = ("cut.jpg", "none.jpg")
    assert rcnnkit("see", "channels", alexnet, whole, *bad, "--count", 1, "--out", "some.png") == 1
    captured = capsys.readouterr()
    assert "wrote some.png" in captured.out
    assert "cut.jpg cannot be decoded" in captured.err
    assert "none.jpg: no such picture" in captured.err
    assert rcnnkit("see", "channels", alexnet, whole, "--count", 1, "--out", "whole.png") == 0
    assert Path("some.png").read_bytes() == Path("whole.png").read_bytes()
    assert rcnnkit("see", "channels", alexnet, *bad, "--out", "none.png") == 1
    assert "no pictures to look through" in capsys.readouterr().err
    assert not Path("none.png").exists()


@pytest.mark.parametrize("channel", [[], ["--channel", "3"]])
def test_channels_of_numbers_that_are_none(
    rcnnkit: Command,
    channel: list[str],
    alexnet: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector, (about, _) = weights.load(alexnet, "cpu", for_training=True), weights.read(alexnet)
    detector.backbone.stages[4][0].weight.data[:] = torch.finfo(torch.float32).max  # finite, and sums of it are not
    file, out = tmp_path / "large.safetensors", tmp_path / "sheet.png"
    weights.save(detector, DetectorSettings.model_validate(about["settings"]), file)
    picture = digits / "JPEGImages" / "000001.jpg"
    assert rcnnkit("see", "channels", file, picture, "--out", out, *channel) == 1
    assert "large.safetensors: activations of conv5 are not finite" in capsys.readouterr().err
    assert not out.exists()


def test_channels_of_a_classifier(
    rcnnkit: Command, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values: dict[str, dict[str, Any]] = {
        "model": {"kind": "classifier", "backbone": "alexnet"},
        "head": {"hidden": 8},
        "classifier": {"resize": 96, "crop": 95},
    }
    file, picture = saved(values, tmp_path / "c.safetensors"), digits / "JPEGImages" / "000001.jpg"
    assert rcnnkit("see", "channels", file, picture, "--count", 2, "--out", "sheet.png") == 0
    classifier = weights.load_classifier(file)
    examples = strongest_examples(classifier, [picture], "conv5", count=2)
    expected = draw_sheet(examples, "conv5", classifier.preprocessing)
    np.testing.assert_array_equal(np.asarray(Image.open("sheet.png")), np.asarray(expected))
    assert rcnnkit("see", "occlusion", file, picture, "--out", "map.png") == 1
    assert "c.safetensors holds a classifier, and `rcnnkit see occlusion` is for detectors" in capsys.readouterr().err


def test_channels_of_a_resnet(
    rcnnkit: Command, tiny: Values, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resnet = saved({name: tiny[name] for name in ("model", "rpn", "head", "input")}, tmp_path / "w.safetensors")
    out = tmp_path / "sheet.png"
    assert rcnnkit("see", "channels", resnet, digits / "JPEGImages", "--out", out) == 1
    assert "w.safetensors: a deconvnet goes back through convolutions in a row" in capsys.readouterr().err
