from pathlib import Path

import pytest

from rcnnkit.data.reading import read_data
from tests.cli.commands import Command


def test_convert(rcnnkit: Command, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnnkit("convert", digits, "--to", "yolo", "--out", "out") == 1
    error = capsys.readouterr().err
    assert "has annotations in several formats: Pascal VOC" in error
    assert error.rstrip().endswith("--data-format voc on the command line")
    assert rcnnkit("convert", digits, "--to", "yolo", "--out", "out", "--data-format", "voc") == 0
    objects = {split: sum(len(r.targets) for r in read_data(digits, split).records) for split in ("train", "val")}
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"train: 8 pictures, {objects['train']} objects",
        f"val: 4 pictures, {objects['val']} objects",
        "note: the classes have new ids, 0, 1, 2, …, in the same order",
        "wrote out as YOLO, with 5 classes",
    ]
    assert f"INFO data/train: read as Pascal VOC: 8 pictures, {objects['train']} objects, 5 classes\n" in captured.err
    assert rcnnkit("convert", "out/data.yaml", "--to", "voc", "--out", "again", "--link", "hard") == 0
    assert read_data(Path("again"), "val").class_names == ["0", "3", "4", "6", "7"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "cvat", "--out", "new"), "--to cvat is not one of coco, voc, yolo"),
        (("--to", "voc", "--out", "new", "--link", "soft"), "--link soft is not one of hard, symbolic"),
        (("--to", "voc", "--out", "full"), "full is not an empty folder; choose another, nothing is overwritten"),
        (
            ("--to", "voc", "--out", "new", "--data-format", "pascal"),
            "'pascal' is not a format; the formats are auto, voc,",
        ),
    ],
)
def test_what_is_wrong(
    rcnnkit: Command, digits: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Path("full").mkdir()
    Path("full/a").touch()
    assert rcnnkit("convert", digits, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not Path("new").exists()
