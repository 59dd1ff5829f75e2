import json
from pathlib import Path

import pytest

from tests.cli.commands import Command, Values, strange_weights


def test_label(rcnnkit: Command, digits: Path, untrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of pictures, beside what is labelled; then the rest of a data set that has other ids."""
    lists = digits / "annotations" / "instances_val.json"
    arguments = ("--weights", untrained, "--min-score", 0.1, "--device", "cpu", "--precision", "float32")
    assert rcnnkit("label", digits / "JPEGImages", *arguments, "--labelled", lists, "--first", 3, "--out", "out") == 0
    lines = capsys.readouterr().out.splitlines()
    order = json.loads(Path("out/order.json").read_text())["pictures"]
    first = order[0]
    assert len(order) == 3
    assert all("val" not in Path(entry["source"]).name for entry in order)
    objects = f"{first['objects'] and len(first['objects'])} objects"
    assert lines[0].startswith(f"1. {first['source']} (uncertainty {first['uncertainty']:.2f}, ")
    assert lines[0].endswith(f"{objects})") or len(first["objects"]) == 1
    assert lines[-1].startswith("wrote 3 pictures and ")
    assert lines[-1].endswith(" in out as COCO, in the order of out/order.csv")
    names = json.loads(Path("out/annotations/instances_train.json").read_text())["categories"]
    assert [entry["name"] for entry in names] == ["0", "2", "3", "4", "6", "7"]


def test_what_is_wrong(
    rcnnkit: Command, digits: Path, untrained: Path, tiny: Values, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(message: str, *arguments: object) -> None:
        assert rcnnkit("label", *arguments) == 1
        assert message in capsys.readouterr().err
        assert not Path("new").exists()

    Path("full").mkdir()
    Path("full/a").touch()
    Path("none").mkdir()
    rest = ("--weights", untrained, "--out", "new", "--device", "cpu")
    fails("--to cvat is not one of coco, voc, yolo, label_studio", digits, *rest, "--to", "cvat")
    fails("full is not an empty folder", digits, "--weights", untrained, "--out", "full")
    fails("--min-score 2: the scores of", digits, *rest, "--min-score", 2)
    fails("none holds no pictures", "none", *rest)
    fails("'pascal' is not a format; the formats are auto, voc,", digits, *rest, "--data-format", "pascal")
    other = strange_weights(tiny, Path(), ["0", "owl"])
    with_voc = (digits, "--data-format", "voc", "--weights", other, "--out", "new")
    fails("has the classes 0, 3, 4, 6, 7, and the detector does not know 3, 4, 6, 7; it knows 0, owl", *with_voc)
    lists = digits / "annotations" / "instances_train.json"
    fails("there is nothing left to label", lists, *rest, "--labelled", lists)
    fails("is a file that is read whole; leave it out", lists, *rest, "--split", "val")
