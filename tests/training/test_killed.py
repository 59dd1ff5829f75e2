"""A run that is killed again and again ends as one that nobody touched, to the last bit."""

import random
from pathlib import Path
from typing import Any

import pytest

from rcnnkit import weights
from rcnnkit.config_files import check_settings, write_settings
from tests.training.several import Job, run_jobs

KILLS = 20
KILL = """
import threading
if rank in {victims}:
    threading.Timer({delay}, os.kill, (os.getpid(), signal.SIGKILL)).start()
"""


Values = dict[str, dict[str, Any]]


def killed_as_whole(folder: Path, values: Values, kills: int, latest: float) -> tuple[Path, Path]:
    """The folders of a run by two processes that nobody touches, and of one that is killed so many times, each time at
    most so many seconds after its start."""
    drawn = random.Random(kills)

    def start(name: str) -> list[str]:
        write_settings(check_settings(values, "test"), folder / f"{name}.toml")
        return ["train", str(folder / f"{name}.toml"), "--out", str(folder / name)]

    again = {"TORCHELASTIC_MAX_RESTARTS": str(kills), "TORCHELASTIC_RESTART_COUNT": "1"}
    jobs: list[Job] = [("whole", 2, {}, start("whole"), "")]
    for number in range(kills):
        code = KILL.format(victims=drawn.choice([{0}, {1}, {0, 1}]), delay=drawn.uniform(0.5, latest))
        jobs.append((f"kill-{number}", 2, again, start("killed"), code))
    jobs.append(("end", 2, again, start("killed"), ""))
    done = run_jobs(folder, jobs, timeout=900)
    assert done["whole"][0] == done["end"][0] == [0, 0], done["end"][1]
    killed = sum(-9 in done[f"kill-{number}"][0] for number in range(kills))
    assert killed > kills // 2, "most came after the end; lengthen the run"
    return folder / "whole", folder / "killed"


def assert_same(whole: Path, killed: Path) -> None:
    """Files of weights that are equal to the last bit, and of the same training."""
    about, tensors = weights.read(whole)
    other, others = weights.read(killed)
    assert tensors.keys() == others.keys()
    assert all(tensors[name].equal(others[name]) for name in tensors)
    about["training"].pop("seconds", None), other["training"].pop("seconds", None)
    assert about["training"] == other["training"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_kills_at_any_moment(tiny: Values, tmp_path: Path, precision: str) -> None:
    train: dict[str, Any] = {
        "iterations": 100,
        "batch": 2,
        "save_every": 2,
        "evaluate_every": 40,
        "validation_losses": False,
    }
    train |= {"precision": precision, "device": "cpu", "loggers": [], "log_every": 50, "warmup": 10, "ema": 0.9}
    values = tiny | {"train": tiny.get("train", {}) | train, "data": tiny["data"] | {"workers": 1}}
    whole, killed = killed_as_whole(tmp_path, values, KILLS, 5)
    for file in ("last.safetensors", "best.safetensors"):
        assert_same(whole / file, killed / file)


@pytest.mark.slow
def test_kills_in_any_stage_of_rcnn(tiny: Values, tmp_path: Path) -> None:
    train = {"iterations": 100, "batch": 2, "lr": 0.03, "save_every": 2, "validation_losses": False}
    values: Values = {
        "model": {"kind": "rcnn", "backbone": "timm/test_resnet"},
        "rcnn": {"size": 32, "context": 4, "samples": 16, "ridge": 10.0},
        "proposals": {"method": "sliding_windows", "train_count": 400, "folder": str(tmp_path / "windows")},
        "input": tiny["input"],
        "data": tiny["data"],
        "train": tiny["train"] | train | {"loggers": [], "log_every": 50, "warmup": 10},
    }
    whole, killed = killed_as_whole(tmp_path, values, KILLS // 2, 8)
    assert_same(whole / "last.safetensors", killed / "last.safetensors")
