"""A data set in one command."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from rcnnkit.config_files import read_settings
from rcnnkit.training import suggest as module
from tests.cli.commands import Command

SMALL = [
    *("train.device=cpu", "train.iterations=2", "train.precision=float32", "data.workers=0", "input.short_side=96"),
    *("model.fpn_channels=16", "head.hidden=16", "head.samples=16", "data.val_share=0.25", "head.score_threshold=0"),
]


@pytest.fixture
def voc(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures of digits in Pascal VOC's layout, and no others to evaluate on; there is no network."""
    shutil.copytree(digits, tmp_path / "cells", ignore=shutil.ignore_patterns("annotations", "val.txt"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(module, "why_not", lambda entry: "no network")
    return tmp_path / "cells"


def test_suggested_settings_are_a_file(rcnnkit: Command, voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("suggest", "cells", *SMALL, "--start", "none") == 0
    out = capsys.readouterr().out
    assert out.startswith("# read as Pascal VOC: 6 training pictures, 5 classes; splits: train\n")
    Path("mine.toml").write_text(out)
    made = read_settings(Path("mine.toml"))
    assert made.data.root == voc
    assert made.train.iterations == 2
    assert f'root = "{voc}"  # read as Pascal VOC\n' in out
    assert rcnnkit("suggest", "cells", "train.batch=none") == 1
    assert "train.batch = 'none'" in capsys.readouterr().err


@pytest.mark.usefixtures("voc")
def test_train_a_folder_and_evaluate_on_what_was_held_out(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("train", "cells", *SMALL, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "short_side = 96  # as you gave it\n" in out
    assert "the largest batch: 2 × 128 × 128 pixels" in out
    assert not Path("runs").exists()

    assert rcnnkit("train", "cells", *SMALL) == 0
    out, err = capsys.readouterr()
    assert err.count("INFO cells/train: read as Pascal VOC: 8 pictures") == 1
    assert "cells/train: 6 pictures, 5 classes; evaluated on cells/train (held out), 2 pictures; " in out
    assert "wrote runs/cells/best.safetensors" in out
    kept = Path("runs/cells/settings.toml").read_text()
    assert 'norm = "batch"  # from scratch, norms learn their statistics\n' in kept
    assert read_settings(Path("runs/cells/settings.toml")).data.val_share == 0.25

    weights = "runs/cells/best.safetensors"
    assert rcnnkit("evaluate", weights, "runs/cells", "--device", "cpu", "--json", "again.json") == 0
    again, then = (json.loads(Path(file).read_text()) for file in ("again.json", "runs/cells/evaluation.json"))
    assert again["pictures"] == 2
    assert again["coco"] == then["coco"]
    assert rcnnkit("evaluate", weights, "runs/cells", "--split", "val") == 1
    assert "--split val is for data sets, and runs/cells is a run's folder; leave it out" in capsys.readouterr().err
    resume = ("train", "runs/cells/settings.toml", "train.resume=runs/cells", "train.iterations=3")
    assert rcnnkit(*resume) == 0
    assert "evaluated on cells/train (held out), 2 pictures; " in capsys.readouterr().out


def test_options_of_data_sets_are_not_for_files(rcnnkit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").touch()
    assert rcnnkit("train", "mine.toml", "--start", "coco") == 1
    assert "--start coco is for a data set, and mine.toml is not one; set train.init instead" in capsys.readouterr().err
    assert rcnnkit("train", "mine.toml", "--minutes", "3") == 1
    assert "--minutes 3.0 is for a data set, and mine.toml is not one" in capsys.readouterr().err
    Path("run").mkdir()
    Path("run/settings.toml").touch()
    assert rcnnkit("train", "run") == 1
    said = "run is the folder of a run; to continue it: rcnnkit train run/settings.toml train.resume=run"
    assert said in capsys.readouterr().err
    Path("empty").mkdir()
    assert rcnnkit("train", "empty") == 1
    assert "empty holds no annotations in a format that is known" in capsys.readouterr().err
