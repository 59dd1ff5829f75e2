import errno
import json
from pathlib import Path

import pytest

from rcnnkit import weights
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from tests.cli.commands import STRANGE, STRANGE_SEEN, Command, Values, stdout_in, strange_weights


def test_a_class_that_the_weights_do_not_know(
    rcnnkit: Command, tiny: Values, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = DetectorSettings.model_validate({name: tiny[name] for name in ("model", "rpn", "head", "input")})
    weights.save(build(settings, ["0", "2", "3", "4", "6"]), settings, tmp_path / "w.safetensors")
    assert rcnnkit("evaluate", tmp_path / "w.safetensors", digits, "--split", "val") == 1
    assert "7" in (error := capsys.readouterr().err)
    assert "0, 2, 3, 4, 6" in error


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_numbers_are_written_and_printed_on_any_terminal(
    rcnnkit: Command, tiny: Values, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    content = json.loads((digits / "annotations" / "instances_val.json").read_text())
    names = ["Löwe", "кот", STRANGE, "4", "6", "7"][: len(content["categories"])]
    file = strange_weights(tiny, tmp_path, names)
    for category, name in zip(content["categories"], names, strict=True):
        category["name"] = name
    (tmp_path / "val.json").write_text(json.dumps(content))
    printed = stdout_in(monkeypatch, encoding)
    arguments = ("evaluate", file, tmp_path / "val.json", "--images", digits)
    assert rcnnkit(*arguments, "--json", tmp_path / "e.json") == 0
    numbers = json.loads((tmp_path / "e.json").read_text())
    assert [each["name"] for each in numbers["classes"]] == names
    shown = printed.getvalue().decode(encoding)
    assert "≤ 100" in shown if encoding == "utf-8" else "<= 100" in shown
    assert STRANGE_SEEN in shown
    assert not set(shown) & {"\x1b", "\u202e"}
    assert ("Löwe" in shown) == (encoding != "ascii")


def test_numbers_that_cannot_be_written_are_printed(
    rcnnkit: Command,
    untrained: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    file = tmp_path / "e.json"
    assert rcnnkit("evaluate", untrained, digits, "--split", "val", "--json", file) == 1
    said = capsys.readouterr()
    assert "VOC 11-point" in said.out
    assert f"{file} cannot be written (No space left on device)" in said.err
    assert not list(tmp_path.glob(".*"))


def test_the_file_of_numbers_is_looked_at_before_the_weights(
    rcnnkit: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.safetensors"
    assert rcnnkit("evaluate", missing, ".", "--json", tmp_path / "none" / "e.json") == 1
    assert "none is not a folder" in capsys.readouterr().err
