from pathlib import Path

import pytest

from rcnnkit.data.reading import read_data
from tests.cli.commands import Command


def test_occlude(rcnnkit: Command, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (digits, "--split", "val", "--data-format", "voc", "--out", tmp_path / "out")
    assert rcnnkit("occlude", *arguments, "--share", 0.4) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "wrote 4 pictures and annotations in" in said
    assert "40% of each object is covered" in said
    assert len(read_data(tmp_path / "out", "test")) == 4
    assert rcnnkit("occlude", *arguments) == 1
    assert "out is not an empty folder; choose another" in capsys.readouterr().err
    assert rcnnkit("occlude", *arguments[:-1], tmp_path / "new", "--share", 1) == 1
    assert "share = 1 is not between 0 and 1" in capsys.readouterr().err
