import json
from pathlib import Path

import pytest

from tests.cli.commands import STRANGE, STRANGE_SEEN, Command, Values, strange_weights


def test_names_of_classes_are_only_text(
    rcnnkit: Command, tiny: Values, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = strange_weights(tiny, tmp_path, [STRANGE, "b\x7f"])
    assert rcnnkit("info", file) == 0
    assert f"classes   2: {STRANGE_SEEN}, b\\x7f\n" in capsys.readouterr().out
    assert rcnnkit("info", file, "--as-json") == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["classes"] == [{"id": 1, "name": STRANGE}, {"id": 2, "name": "b\x7f"}]
    assert not {letter for letter in shown if not " " <= letter < "\x7f"} - {"\n"}
