import json
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from PIL import Image

from rcnnkit import weights
from tests.cli.commands import Command, Values


def test_train_evaluate_detect(
    rcnnkit: Command,
    tiny: Values,
    digits: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = Path("tiny.toml")
    config.write_text(tomli_w.dumps(tiny))
    assert rcnnkit("train", config, "train.iterations=2", "head.score_threshold=0.01") == 0
    out = capsys.readouterr().out
    assert "learning rate 0.0025 (train.lr_for_16 = 0.02)" in out
    assert "wrote runs/tiny/best.safetensors" in out
    assert rcnnkit("train", config, "train.iterations=1") == 0  # the next run, beside it
    assert Path("runs/tiny-2/best.safetensors").exists()
    resume = ("train", "runs/tiny/settings.toml", "train.resume=runs/tiny", "train.iterations=3")
    capsys.readouterr()
    assert rcnnkit(*resume) == 0
    said = "going on after iteration 2 of 3; train.iterations 2 → 3\n"
    assert said in capsys.readouterr().out
    assert weights.read("runs/tiny/last.safetensors")[0]["training"]["iteration"] == 3
    capsys.readouterr()

    best = Path("runs/tiny/best.safetensors")
    assert rcnnkit("evaluate", best, digits, "--split", "val", "--json", "voc.json") == 0
    assert "VOC 11-point" in capsys.readouterr().out
    annotations = digits / "annotations" / "instances_val.json"
    assert rcnnkit("evaluate", best, annotations, "--json", "coco.json") == 0
    voc, coco = (json.loads(Path(f"{name}.json").read_text()) for name in ("voc", "coco"))
    assert voc["coco"] == coco["coco"]  # the same pictures in two formats
    assert voc["pictures"] == 4

    assert rcnnkit("detect", best, digits / "JPEGImages", "--out", "found", "--min-score", "0.01") == 0
    results = json.loads(Path("found/detections.json").read_text())
    assert results
    assert results[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert {Path(r["image_id"]).name for r in results} <= {p.name for p in (digits / "JPEGImages").iterdir()}
    first = digits / "JPEGImages" / "000001.jpg"
    drawn = np.asarray(Image.open("found/000001.jpg"), dtype=int)
    plain = np.asarray(Image.open(first), dtype=int)
    assert drawn.shape == plain.shape
    assert (np.abs(drawn - plain).max(axis=2) > 60).any()  # something was drawn
