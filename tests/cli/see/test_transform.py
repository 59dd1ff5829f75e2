from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit import weights
from rcnnkit.drawing import draw_looks, looks
from tests.cli.commands import Command
from tests.detectors.test_kinds import made, turn


def test_transform(rcnnkit: Command, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, settings = made("classifier", "rotation")
    turn(model)
    weights.save(model, settings, tmp_path / "w.safetensors")
    folder = digits / "JPEGImages"
    assert rcnnkit("see", "transform", "w.safetensors", folder, "--count", 3, "--out", "sheet.png") == 0
    assert "wrote 3 windows to sheet.png" in capsys.readouterr().out
    expected = draw_looks([look for picture in sorted(folder.iterdir())[:3] for look in looks(model, picture)])
    np.testing.assert_array_equal(np.asarray(Image.open("sheet.png")), np.asarray(expected))

    assert rcnnkit("see", "transform", "w.safetensors", folder, "--out", "sheet.png") == 1
    assert "sheet.png is there already" in capsys.readouterr().err
    model, settings = made("classifier", "none")
    weights.save(model, settings, tmp_path / "plain.safetensors")
    assert rcnnkit("see", "transform", "plain.safetensors", folder, "--out", "two.png") == 1
    assert "plain.safetensors: there is no spatial transformer; train with" in capsys.readouterr().err
