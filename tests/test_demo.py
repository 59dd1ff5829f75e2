import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import rcnnkit
from rcnnkit import demo


def test_the_demo_in_miniature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_for = demo.settings_for

    def short(data: Path, device: str) -> dict[str, Any]:
        settings = settings_for(data, device)
        return settings | {"train": settings["train"] | {"iterations": 2, "log_every": 1}}

    monkeypatch.setattr(demo, "settings_for", short)
    monkeypatch.setattr(demo, "TRAINING_PICTURES", 6)
    out = tmp_path / "demo"
    ap50 = demo.run_demo(out, "cpu", Console(width=100))
    printed = capsys.readouterr().out
    assert "VOC 11-point" in printed
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["pictures"] == 64
    assert evaluation["coco"]["AP50"] == ap50
    drawn = sorted((out / "detections").iterdir())
    assert len(drawn) == demo.SHOWN
    assert Image.open(drawn[0]).size == (160, 160)
    # the three lines that it prints are Python, and work
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  ")][-3:]
    assert lines[0] == "import rcnnkit"
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    assert isinstance(names["detector"], rcnnkit.FasterRCNN)
    with pytest.raises(FileExistsError, match="not empty"):
        demo.run_demo(out, "cpu", Console(quiet=True))


@pytest.mark.slow
def test_the_demo_learns(tmp_path: Path) -> None:
    assert demo.run_demo(tmp_path / "demo", "auto", Console(quiet=True)) >= 0.80
