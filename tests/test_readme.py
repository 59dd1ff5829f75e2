"""The README is short, and its commands do what it says, in its order."""

import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from rcnnkit.cli import main
from tests import documents
from tests.documents import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = ("pip install -e . && rcnnkit demo", "pip install -e '.[test]' && python -m pytest")


def test_it_is_one_screen() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1200
    assert "](docs/pictures/" in "\n".join(README.splitlines()[:10])


def test_ci_installs_as_it_says() -> None:
    lines = [line.strip() for line in README.splitlines()]
    assert all(command in lines for command in INSTALL)
    assert INSTALL[1] in (ROOT / ".ci" / "run").read_text().replace("install -q", "install")


def test_the_settings_file_has_eight_lines() -> None:
    (code,) = documents.blocks(README, "toml")
    assert len(code.splitlines()) == 8


def test_its_commands_train_stop_evaluate_and_detect(
    digits: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cells").symlink_to(digits)
    (tmp_path / "rcnnkit-demo" / "data").mkdir(parents=True)
    (tmp_path / "rcnnkit-demo" / "data" / "JPEGImages").symlink_to(digits / "JPEGImages")
    (tmp_path / "rcnnkit-demo" / "faster-rcnn").symlink_to(tmp_path / "runs" / "cells")
    (code,) = documents.blocks(README, "toml")
    values = tomllib.loads(code)
    for section, small in tiny.items():  # as it says, but for what makes it small; nothing is downloaded
        values[section] = values.get(section, {}) | small
    values["data"]["root"] = "data/cells"
    values["model"]["pretrained"] = False
    (tmp_path / "cells.toml").write_text(tomli_w.dumps(values))
    commands = [words for words in documents.commands(README) if words[0] == "rcnnkit" and words[1] != "demo"]
    assert sorted(words[1] for words in commands) == ["detect", "evaluate", "train", "train"]
    for words in sorted(commands, key=lambda words: words[1] == "detect"):  # it detects with what was trained
        resumes = any(word.startswith("train.resume") for word in words)
        assert run(monkeypatch, *words[1:], *(["train.iterations=6"] if resumes else [])) == 0, shlex.join(words)
    (table,) = re.findall(r"\| file \|.*?\n\n", README, re.DOTALL)
    named = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(named) == 5
    assert all((tmp_path / "runs" / "cells" / file).is_file() for file in named)
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 12
    assert (tmp_path / "found" / "detections.json").is_file()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["rcnnkit", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
