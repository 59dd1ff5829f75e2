import json
from pathlib import Path

import pytest

from tests.cli.commands import Command


def test_attack_and_evaluate(
    rcnnkit: Command, untrained: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((digits / "annotations" / "instances_val.json").read_text())
    content["images"] = content["images"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == content["images"][0]["id"]]
    content["categories"] = [{"id": i, "name": n} for i, n in enumerate("023467", start=1)]
    (tmp_path / "one.json").write_text(json.dumps(content))
    arguments = (untrained, tmp_path / "one.json", "--images", digits, "--data-format", "coco", "--eps", 2)
    assert rcnnkit("attack", *arguments, "--out", tmp_path / "new") == 0
    said = capsys.readouterr().out
    assert "fgsm, at most 2 grey levels" in said
    assert all(row in said for row in ("as they are", "random signs", "attacked"))
    assert "wrote 1 picture, annotations and report.json in" in said
    assert (
        rcnnkit("evaluate", untrained, tmp_path / "new", "--json", tmp_path / "e.json", "--precision", "float32") == 0
    )
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    numbers = json.loads((tmp_path / "e.json").read_text())["coco"]
    assert numbers["AP"] == pytest.approx(report["attacked"]["AP"])
    assert rcnnkit("attack", *arguments, "--out", tmp_path / "new") == 1
    assert "new is not an empty folder; choose another --out" in capsys.readouterr().err
