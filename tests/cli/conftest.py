"""The command, and weights for it."""

import sys
from pathlib import Path

import pytest

from rcnnkit import weights
from rcnnkit.cli import main
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from tests.cli.commands import Command, Values


@pytest.fixture
def rcnnkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs the command in `tmp_path`; gives its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["rcnnkit", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def untrained(tiny: Values, tmp_path: Path) -> Path:
    """Weights that detect something, if nothing sensible."""
    values = {name: tiny[name] for name in ("model", "rpn", "input")}
    values["head"] = tiny["head"] | {"score_threshold": 0.01}
    settings = DetectorSettings.model_validate(values)
    path = tmp_path / "untrained.safetensors"
    weights.save(build(settings, ["0", "2", "3", "4", "6", "7"]).eval(), settings, path)
    return path
