"""tools/on_gpu.py: each part survives the failure of another."""

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.documents import ROOT
from tests.test_numbers import load


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    return load("on_gpu")


def test_a_part_that_fails_or_hangs_leaves_the_others_alone(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = '{"rows": [{"": "nms", "ratio": 130.25}]}'
    parts = {
        "first": tool.Part([sys.executable, "-c", "raise SystemExit('no compiler')"], 20),
        "hanging": tool.Part(["bash", "-c", "sleep 600 & sleep 600"], 1),
        "last": tool.Part(["bash", "-c", f"echo '{rows}' > {{json}}; echo done"], 20),
    }
    monkeypatch.setattr(tool, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", "--out", str(tmp_path)])
    began = time.monotonic()
    assert tool.main() == 1
    assert time.monotonic() - began < 60  # not the ten minutes of what hangs
    results = json.loads((tmp_path / "results.json").read_text())
    assert {name: part["status"] for name, part in results["parts"].items()} == {
        "first": "failed with 1",
        "hanging": "stopped after 1 s",
        "last": "passed",
    }
    assert results["parts"]["first"]["last"] == "no compiler"
    assert results["parts"]["last"]["result"]["rows"][0]["ratio"] == 130.25
    shown = capsys.readouterr().out
    assert "nms" in shown
    assert "ratio 130" in shown


def test_all_parts_fit_in_eight_minutes_and_name_files_that_exist(tool: ModuleType) -> None:
    assert sum(part.limit for part in tool.PARTS.values()) <= 8 * 60
    words = [word for part in tool.PARTS.values() for word in part.command]
    assert all((ROOT / word).exists() for word in words if word.endswith((".py", ".toml")))
