"""rcnnkit align, ground, search, and evaluate on an aligner."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from rcnnkit.data.told_digits import write_told_digits
from tests.cli.commands import Command, Values
from tests.training.aligners import QUICK, untrained_detector

SAID = pytest.CaptureFixture[str]


def test_align_ground_search_and_evaluate(rcnnkit: Command, tiny: Values, tmp_path: Path, capsys: SAID) -> None:
    write_told_digits(tmp_path / "data", train=4, val=3, size=(96, 96))
    detector = untrained_detector(tiny, tmp_path / "detector.safetensors")
    assert rcnnkit("align", detector, tmp_path / "data", *QUICK, "train.iterations=1", "--out", tmp_path / "run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "captions_train: 4 pictures with" in said
    assert "beside a Faster R-CNN; 1 iteration of 3 pairs, learning rate 0.001" in said
    best = tmp_path / "run" / "best.safetensors"
    assert f"wrote {best}" in said

    assert rcnnkit("info", best) == 0
    said = capsys.readouterr().out
    assert "aligner" in said
    assert "of a Faster R-CNN" in said
    assert "timm/test_resnet, FPN of 16 channels" in said

    picture = tmp_path / "data" / "val" / "000005.jpg"
    arguments = ("ground", best, picture, "a large red zebra", "--beta", 0, "--device", "cpu")
    assert rcnnkit(*arguments, "--out", tmp_path / "g.png", "--json", tmp_path / "g.json") == 0
    said = capsys.readouterr().out
    assert "note: not learnt, so the words around them decide: zebra" in said
    assert "picture and sentence:" in said
    assert "wrote" in said
    found = json.loads((tmp_path / "g.json").read_text())
    assert [each["word"] for each in found["words"]] == ["a", "large", "red", "zebra"]
    assert found["boxes"][0] == [0, 0, 96, 96]
    assert all(each["box"] == found["boxes"][each["region"]] for each in found["words"])
    with Image.open(tmp_path / "g.png") as drawn:
        assert drawn.size == (96, 96)
    assert rcnnkit(*arguments, "--out", tmp_path / "g.png") == 1
    assert "g.png is there already; choose another file" in capsys.readouterr().err

    shutil.copytree(tmp_path / "data" / "val", tmp_path / "pictures")
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"no picture")
    search = ("search", best, tmp_path / "pictures")
    assert rcnnkit(*search, "a large red seven", "--first", 2, "--json", tmp_path / "s.json", "--device", "cpu") == 1
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err
    assert [line[:2] for line in captured.out.splitlines()[:3]] == ["1.", "2.", "wr"]
    ranked = json.loads((tmp_path / "s.json").read_text())["pictures"]
    assert len(ranked) == 3
    assert [each["score"] for each in ranked] == sorted((each["score"] for each in ranked), reverse=True)
    assert f"1. {ranked[0]['picture']} ({ranked[0]['score']:.2f})" in captured.out
    assert rcnnkit(*search, "zebras") == 1
    assert "no word of the sentence 'zebras' was in the sentences" in capsys.readouterr().err

    assert rcnnkit("evaluate", best, tmp_path / "data", "--split", "val", "--json", tmp_path / "e.json") == 0
    said = capsys.readouterr().out
    assert all(text in said for text in ("R@1", "R@10", "median rank", "a sentence of each picture"))
    numbers = json.loads((tmp_path / "e.json").read_text())
    assert (numbers["pictures"], numbers["sentences"]) == (3, 3)
    assert rcnnkit("evaluate", best, tmp_path / "run", "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text())["R5"] == numbers["R5"]
    capsys.readouterr()
    assert rcnnkit("evaluate", best, tmp_path / "data", "--worst", tmp_path / "w") == 1
    assert "holds an aligner, which is judged by sentences; leave --worst out" in capsys.readouterr().err
    assert rcnnkit("detect", best, picture, "--out", tmp_path / "d") == 1
    assert "holds an aligner, for `rcnnkit ground` and `rcnnkit search`" in capsys.readouterr().err
    assert rcnnkit("ground", detector, picture, "a seven") == 1
    assert "holds a Faster R-CNN, and sentences need an aligner; make one on a detector" in capsys.readouterr().err
