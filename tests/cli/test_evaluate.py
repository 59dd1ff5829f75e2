import contextlib
import errno
import io
import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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


def test_a_report_the_worst_pictures_and_results_with_the_data_sets_ids(
    rcnnkit: Command, untrained: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, worst, results = tmp_path / "out", tmp_path / "worst", tmp_path / "results.json"
    truth = digits / "annotations" / "instances_val.json"
    command = ("evaluate", untrained, truth, "--images", digits)
    assert rcnnkit(*command, "--report", out, "--worst", worst, "--results", results) == 0
    printed = capsys.readouterr().out
    for path in (out / "report.html", out / "report.json", worst / "pictures.csv", results):
        assert path.is_file()
        assert f"wrote {path}" in printed.replace("\n", "")
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(truth))
        run = COCOeval(official, official.loadRes(str(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    numbers = json.loads((out / "report.json").read_text())["coco"]
    # Results are rounded, which may move a box across a threshold.
    assert [-1 if value is None else value for value in numbers.values()] == pytest.approx(run.stats.tolist(), abs=0.02)
    assert rcnnkit("compare", out / "report.json", out / "report.json", "--json", tmp_path / "c.json") == 0
    assert "these pictures do not tell which is better" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["numbers"][0]["difference"] == 0


def test_folders_that_hold_something_are_found_before_the_weights(
    rcnnkit: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for flag in ("--report", "--worst"):
        assert rcnnkit("evaluate", tmp_path / "missing.safetensors", ".", flag, tmp_path / "full") == 1
        assert "full is not an empty folder" in capsys.readouterr().err
