"""What tests of several commands share."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit import weights
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings

Values = dict[str, dict[str, Any]]
Command = Callable[..., int]  # of arguments, to the exit status

STRANGE = "a\x1b[2J\n\u202eb"  # clears the screen, begins a line, turns what follows round
STRANGE_SEEN = r"a\x1b[2J\n\u202eb"

ALEXNET: Values = {
    "model": {"backbone": "alexnet"},
    "head": {"hidden": 8, "score_threshold": 0.01},
    "input": {"short_side": 96, "long_side": 96},
}


def stdout_in(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """What the command prints, on a terminal of that encoding."""
    file = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", file)
    return file.buffer


def strange_weights(tiny: Values, folder: Path, names: list[str]) -> Path:
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    weights.save(build(settings, names).eval(), settings, folder / "w.safetensors")
    return folder / "w.safetensors"


def saved(values: Values, path: Path) -> Path:
    settings = DetectorSettings.model_validate(values)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(build(settings, ["cell", "disc"]).eval(), settings, path)
    return path
