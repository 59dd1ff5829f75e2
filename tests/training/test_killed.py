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


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_kills_at_any_moment(tiny: dict[str, dict[str, Any]], tmp_path: Path, precision: str) -> None:
    train: dict[str, Any] = {
        "iterations": 100,
        "batch": 2,
        "save_every": 2,
        "evaluate_every": 40,
        "validation_losses": False,
    }
    train |= {"precision": precision, "device": "cpu", "loggers": [], "log_every": 50, "warmup": 10, "ema": 0.9}
    values = tiny | {"train": tiny.get("train", {}) | train, "data": tiny["data"] | {"workers": 1}}
    drawn = random.Random(precision)

    def start(name: str) -> list[str]:
        write_settings(check_settings(values, "test"), tmp_path / f"{name}.toml")
        return ["train", str(tmp_path / f"{name}.toml"), "--out", str(tmp_path / name)]

    again = {"TORCHELASTIC_MAX_RESTARTS": str(KILLS), "TORCHELASTIC_RESTART_COUNT": "1"}
    jobs: list[Job] = [("whole", 2, {}, start("whole"), "")]
    for number in range(KILLS):
        code = KILL.format(victims=drawn.choice([{0}, {1}, {0, 1}]), delay=drawn.uniform(0.5, 5))
        jobs.append((f"kill-{number}", 2, again, start("killed"), code))
    jobs.append(("end", 2, again, start("killed"), ""))
    done = run_jobs(tmp_path, jobs, timeout=900)
    assert done["whole"][0] == done["end"][0] == [0, 0], done["end"][1]
    killed = sum(-9 in done[f"kill-{number}"][0] for number in range(KILLS))
    assert killed > KILLS // 2, "most came after the end; lengthen the run"
    for file in ("last.safetensors", "best.safetensors"):
        about, whole = weights.read(tmp_path / "whole" / file)
        other, tensors = weights.read(tmp_path / "killed" / file)
        assert whole.keys() == tensors.keys()
        assert all(whole[name].equal(tensors[name]) for name in whole)
        about["training"].pop("seconds", None), other["training"].pop("seconds", None)
        assert about["training"] == other["training"]
