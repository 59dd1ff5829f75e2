import shutil
from pathlib import Path

import pytest

from rcnnkit.data.layout import find_layout
from rcnnkit.data.reading import read_data, read_layout
from tests.cli.commands import Command


def test_split(rcnnkit: Command, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("split", digits, "--data-format", "voc", "--val", "0.25", "--group-by", r"(\d)\.jpg")
    assert rcnnkit(*arguments, "--out", "new") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 groups of pictures, none divided"
    assert lines[1].startswith("train: ")
    assert lines[2].startswith("val: 3 pictures, ")
    assert lines[3] == "wrote new; rcnnkit train and rcnnkit convert take it"
    splits = read_layout(find_layout(Path("new")))
    before = {r.path: r.targets.boxes.tolist() for split in ("train", "val") for r in read_data(digits, split).records}
    after = {r.path.resolve(): r.targets.boxes.tolist() for part in splits.values() for r in part.records}
    assert before == after
    assert rcnnkit(*arguments, "--out", "new") == 1
    assert "new is not an empty folder; choose another, nothing is overwritten" in capsys.readouterr().err
    assert rcnnkit(*arguments, "--out", "again") == 0
    for name in ("train", "val"):
        file = f"annotations/instances_{name}.json"
        assert (Path("new") / file).read_text() == (Path("again") / file).read_text()


def test_test_pictures_stay(rcnnkit: Command, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data, ignore=shutil.ignore_patterns("annotations"))
    lists = data / "ImageSets" / "Main"
    (lists / "val.txt").rename(lists / "test.txt")
    assert rcnnkit("split", data, "--val", "0.25", "--out", "kept") == 0
    assert "test: 4 pictures" in (said := capsys.readouterr().out)
    assert "(as it was)" in said
    train, val, test = read_layout(find_layout(Path("kept"))).values()
    assert (len(train) + len(val), len(val) in (2, 3), len(test)) == (8, True, 4)
    assert rcnnkit("split", data, "--val", "0.25", "--test", "0.25", "--out", "all") == 0
    parts = [len(part) for part in read_layout(find_layout(Path("all"))).values()]
    assert sum(parts) == 12
    assert min(parts) >= 2
