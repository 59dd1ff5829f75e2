import json
import shutil
from pathlib import Path

import pytest

from rcnnkit.data.layout import find_layout
from tests.cli.commands import Command


@pytest.fixture
def voc(digits: Path, tmp_path: Path) -> Path:
    root = shutil.copytree(digits, tmp_path / "data")
    shutil.rmtree(root / "annotations")
    return root


def test_clean_data_exits_with_0(rcnnkit: Command, voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("check", voc, "--strict") == 0
    said = capsys.readouterr().out
    assert "read as Pascal VOC: train, val" in said
    assert "0 errors, 0 warnings" in said


def test_errors_and_in_strict_mode_warnings_exit_with_1(
    rcnnkit: Command, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (voc / "ImageSets" / "Main" / "train.txt").read_text().split()[0]
    with (voc / "ImageSets" / "Main" / "val.txt").open("a") as file:
        file.write(f"{first}\n")
    assert rcnnkit("check", voc) == 0
    assert "warning: A file is in two splits (1, same-in-two-splits)" in capsys.readouterr().out
    assert rcnnkit("check", voc, "--strict") == 1
    (voc / "Annotations" / f"{first}.xml").write_text("<annotation>")
    assert rcnnkit("check", voc, "--json", tmp_path / "c.json", "--out", tmp_path / "page") == 1
    said = capsys.readouterr().out
    assert "error: Faults that stop training (2, stops-training)" in said
    assert "this is not XML" in said
    assert f"wrote {tmp_path / 'page' / 'report.html'}" in said
    assert json.loads((tmp_path / "c.json").read_text())["counts"]["error"] == 2


def test_a_settings_file_names_data_and_detector(
    rcnnkit: Command, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text(f'[data]\nroot = "{digits}"\nval = ""\n\n[head]\nmax_detections = 1\n')
    assert rcnnkit("check", settings, "--strict") == 1
    said = capsys.readouterr().out
    assert "more than head.max_detections = 1" in said
    assert "val" not in [line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│")]
    capsys.readouterr()
    assert rcnnkit("check", digits, "--split", "train", "--config", settings, "--strict") == 1
    assert "more than head.max_detections = 1" in capsys.readouterr().out


def test_a_fixed_copy_is_written_once(
    rcnnkit: Command, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rcnnkit("check", voc, "--fix", tmp_path / "fixed") == 0
    assert f"wrote {tmp_path / 'fixed' / 'changes.txt'}" in capsys.readouterr().out
    assert find_layout(tmp_path / "fixed").format == "coco"
    assert rcnnkit("check", voc, "--fix", tmp_path / "fixed") == 1
    assert "is not an empty folder; choose another, nothing is overwritten" in capsys.readouterr().err


def test_what_is_not_there_is_reported(rcnnkit: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("check", tmp_path / "nothing") == 1
    assert "does not exist" in capsys.readouterr().err
