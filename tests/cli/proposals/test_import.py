import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from rcnnkit.data.reading import read_data
from rcnnkit.proposals.store import Store
from tests.cli.commands import Command


def test_import(rcnnkit: Command, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read_data(digits, "train")
    file = tmp_path / "train.pkl"
    boxes = [record.targets.boxes.numpy() for record in data.records]
    ids = [record.id for record in data.records]
    scores = [np.arange(len(each))[::-1] for each in boxes]
    file.write_bytes(pickle.dumps({"ids": ids, "boxes": boxes, "objectness_logits": scores}))
    out = tmp_path / "p"
    assert rcnnkit("proposals", "import", file, digits, "--out", out) == 0
    assert "data/train: proposals of 8 of 8 pictures in" in capsys.readouterr().out
    assert Store.open(out).settings["file"] == "train.pkl"
    arguments = ("--split", "train", "--json", tmp_path / "n.json")
    assert rcnnkit("proposals", "evaluate", digits, "--proposals", out, *arguments) == 0
    assert json.loads((tmp_path / "n.json").read_text())["first"][0]["mabo"] == 1  # the objects themselves
    file.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert rcnnkit("proposals", "import", file, digits, "--out", out) == 1
    assert "it asks for os.system, and only arrays and plain containers are admitted" in capsys.readouterr().err
