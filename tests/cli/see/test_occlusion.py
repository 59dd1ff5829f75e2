from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit import weights
from rcnnkit.drawing import draw_occlusion, occlusion
from tests.cli.commands import ALEXNET, Command, saved


def test_occlusion(
    rcnnkit: Command,
    alexnet: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector, picture = weights.load(alexnet, precision="float32"), digits / "JPEGImages" / "000001.jpg"
    see = ("see", "occlusion", alexnet, picture, "--precision", "float32", "--square", 40, "--stride", 40)

    assert rcnnkit(*see, "--out", "best.png") == 0
    (name, _, box), *_ = detector(picture)
    expected = occlusion(detector, picture, box, name, square=40, stride=40)
    out = capsys.readouterr().out
    assert f"{name} scores {expected.score:.3f}; with a square of 40 pixels, {expected.scores.min():.3f} to" in out
    same = np.abs(np.asarray(Image.open("best.png"), int) - np.asarray(draw_occlusion(expected), int)) <= 2
    assert same.mean() > 0.99  # convolutions of prepared detectors round otherwise, so a digit may differ

    assert rcnnkit(*see, "--box", 10, 20, 50, 60, "--class", "disc", "--out", "box.png") == 0
    expected = occlusion(detector, picture, (10, 20, 50, 60), "disc", square=40, stride=40)
    assert f"disc scores {expected.score:.3f}; with a square of 40" in capsys.readouterr().out

    assert rcnnkit(*see, "--out", "best.png") == 1
    assert "best.png is there already" in capsys.readouterr().err
    assert rcnnkit(*see, "--class", "dics", "--out", "new.png") == 1
    assert "no class is called 'dics'; did you mean disc? The classes are cell, disc" in capsys.readouterr().err
    for options in ([], ["--box", 10, 20, 50, 60]):
        assert rcnnkit(*see, "--class", "CELL", "--out", "new.png", *options) == 1
        assert "did you mean cell?" in capsys.readouterr().err
    Path("text.jpg").write_text("a cell and a disc")
    assert rcnnkit("see", "occlusion", alexnet, "text.jpg", "--out", "new.png") == 1
    assert "text.jpg cannot be decoded (no known kind of picture); copy" in capsys.readouterr().err
    nothing = saved(ALEXNET | {"head": {"hidden": 8, "score_threshold": 0.99}}, tmp_path / "n.safetensors")
    assert rcnnkit("see", "occlusion", nothing, picture, "--out", "new.png", "--class", "disc") == 1
    assert "nothing called disc is found in" in capsys.readouterr().err
    assert not Path("new.png").exists()
