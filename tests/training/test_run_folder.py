"""The folder of a run."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rcnnkit.config import Settings, check_settings
from rcnnkit.training.loop import train

Values = dict[str, dict[str, Any]]
QUIET = Console(quiet=True)


def settings(tiny: Values, **train: Any) -> Settings:
    return check_settings(tiny | {"train": tiny["train"] | train}, "test")


def test_a_run_is_never_overwritten(tiny: Values, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"train\.resume"):
        train(settings(tiny), tmp_path / "run", QUIET)
    train(settings(tiny), tmp_path / "other", QUIET)
    with pytest.raises(FileExistsError):  # also by a run that goes on from elsewhere
        train(settings(tiny, resume=str(tmp_path / "other"), iterations=9), tmp_path / "run", QUIET)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_frozen_norms_need_weights_to_start_from(tiny: Values, tmp_path: Path) -> None:
    tiny["model"] |= {"norm": "frozen"}
    with pytest.raises(ValueError, match=r"model\.pretrained = true"):
        train(settings(tiny), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()
