from pathlib import Path

import pytest

from tests.cli.commands import Command


def test_a_split_beside_a_file_is_refused(
    rcnnkit: Command, digits: Path, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = digits / "annotations/instances_val.json"
    out = ("--out", tmp_path / "o")
    for command in (
        ("evaluate", untrained, file),
        ("crop", file, *out),
        ("svms", untrained, file, "--proposals", tmp_path, *out),
        ("benchmark", "--weights", untrained, "--data", file, *out),
        ("proposals", "compute", file, *out),
        ("proposals", "evaluate", file, "--proposals", tmp_path),
    ):
        assert rcnnkit(*command, "--split", "val") == 1
        assert capsys.readouterr().err.endswith(
            f"--split val is for folders, and {file} is a file that is read whole; leave it out\n"
        )
    assert not (tmp_path / "o").exists()
