"""The folder of a run."""

from pathlib import Path

import pytest

from rcnnkit.config_files import check_settings, read_settings
from rcnnkit.training.alternating import train_alternating
from rcnnkit.training.loop import train
from rcnnkit.training.run_folder import keep_settings
from tests.training.runs import QUIET, Values, settings


def test_a_run_is_never_overwritten(tiny: Values, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    for folder in (tmp_path / "run", tmp_path / "run" / "notes.txt"):
        with pytest.raises(FileExistsError, match=rf"{folder} is no empty folder; choose another$"):
            train(settings(tiny), folder, QUIET)
    train(settings(tiny), tmp_path / "other", QUIET)
    with pytest.raises(FileExistsError, match=r"choose another, or continue it with train\.resume=.*other$"):
        train(settings(tiny), tmp_path / "other", QUIET)
    with pytest.raises(FileExistsError):  # also by a run that goes on from elsewhere
        train(settings(tiny, resume=str(tmp_path / "other"), iterations=9), tmp_path / "run", QUIET)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_there_is_a_run_to_go_on_with(tiny: Values, tmp_path: Path) -> None:
    for resume in (tmp_path / "run", tmp_path / "run" / "last.safetensors"):
        with pytest.raises(FileNotFoundError, match=rf"there is no {resume}, so no run to go on with"):
            train(settings(tiny, resume=str(resume)), tmp_path / "run", QUIET)
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no .*run/last\.safetensors, so no run to go on with"):
        train(settings(tiny, resume=str(tmp_path / "run")), tmp_path / "run", QUIET)
    alternating = check_settings(
        tiny | {"alternating": {"enabled": True}, "train": tiny["train"] | {"resume": str(tmp_path / "run")}}, "test"
    )
    with pytest.raises(FileNotFoundError, match=r"there is no .*run/settings\.toml, so no run to go on with"):
        train_alternating(alternating, tmp_path / "run", QUIET)
    assert not list((tmp_path / "run").iterdir())


def test_no_settings_are_lost_by_going_on(tiny: Values, tmp_path: Path) -> None:
    for lr in (0.1, 0.2, 0.3):
        keep_settings(settings(tiny, lr=lr, **({} if lr == 0.1 else {"resume": str(tmp_path)})), tmp_path, 7)
    names = ("settings-until-7.toml", "settings-until-7-2.toml", "settings.toml")
    assert [read_settings(tmp_path / name).train.lr for name in names] == [0.1, 0.2, 0.3]
    assert len(list(tmp_path.iterdir())) == 3


def test_frozen_norms_need_weights_to_start_from(tiny: Values, tmp_path: Path) -> None:
    tiny["model"] |= {"norm": "frozen"}
    with pytest.raises(ValueError, match=r"model\.pretrained = true"):
        train(settings(tiny), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()
