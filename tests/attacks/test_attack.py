"""Attacked pictures as they are written and judged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.attacks.attack import attack
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.evaluation.report import evaluate
from rcnnkit.images import read_picture
from rcnnkit.inference import prepare

Values = dict[str, dict[str, Any]]


@pytest.fixture
def data(digits: Path) -> Dataset:
    whole = read_data(digits, "val", format="coco")
    return Dataset("one", whole.records[:1], whole.class_names, whole.category_ids)


def detector(names: Any, **sections: Any) -> Detector:
    values: Values = {
        "model": {"backbone": "alexnet"} | sections.pop("model", {}),
        "rpn": {"post_nms": 20, "train_post_nms": 20},
        "head": {"hidden": 8, "samples": 8, "score_threshold": 0.0},
        "input": {"short_side": 96, "long_side": 96},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build(DetectorSettings.model_validate(values | sections), names).eval()
    assert isinstance(made, Detector)
    return made


SLIDING = {"model": {"kind": "fast_rcnn"}, "proposals": {"method": "sliding_windows", "count": 10}}
SOFTMAX = SLIDING | {"model": {"kind": "rcnn"}, "rcnn": {"scorer": "softmax", "size": 95, "samples": 8}}


@pytest.mark.parametrize(
    ("method", "eps", "sections"),
    [("fgsm", 255, {}), ("pgd", 3, {}), ("dag", 5, {}), ("fgsm", 2, SLIDING), ("pgd", 1, SOFTMAX)],
)
def test_no_pixel_leaves_the_ball_and_the_file_is_what_is_judged(
    data: Dataset, tmp_path: Path, method: str, eps: int, sections: Any
) -> None:
    model = detector(data.class_names, **sections)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps = 0 if method == "fgsm" else 2
    result = attack(model, data, tmp_path / "out", method=method, eps=eps, steps=steps)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())

    written = read_data(tmp_path / "out", "test", class_names=model.class_names)
    assert [record.size for record in written.records] == [record.size for record in data.records]
    largest = []
    for new, old in zip(written.records, data.records, strict=True):
        assert new.path.suffix == ".png"
        torch.testing.assert_close(new.targets.boxes, old.targets.boxes)
        assert new.targets.labels.equal(old.targets.labels)
        change = read_picture(new.path).astype(int) - read_picture(old.path).astype(int)
        largest.append(np.abs(change).max())
    assert 1 <= max(largest) <= eps
    assert result.versions["attacked"].largest == max(largest)
    assert result.versions["clean"].largest == 0
    assert 1 <= result.versions["random"].largest <= eps
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == result.to_json()
    again = evaluate(prepare(model, "float32"), written, warn=False)
    assert again.numbers["AP"] == pytest.approx(result.versions["attacked"].ap, nan_ok=True)


def test_the_same_seed_writes_the_same_bytes(data: Dataset, tmp_path: Path) -> None:
    model = detector(data.class_names)
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        attack(model, data, tmp_path / name, method="pgd", eps=2, steps=1, seed=seed)
    one, two, three = (
        [p.read_bytes() for p in sorted((tmp_path / n / "images").iterdir())] for n in ("one", "two", "three")
    )
    assert one == two
    assert one != three


def test_what_cannot_be_attacked(data: Dataset, tmp_path: Path) -> None:
    svms = detector(data.class_names, **(SOFTMAX | {"rcnn": {"size": 95}}))
    softmax = detector(data.class_names, **SOFTMAX)
    model = detector(data.class_names)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    none = Dataset("none", [], data.class_names, data.category_ids)
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (svms, data, {}, "scores are margins of SVMs, which its losses know nothing of; attack a Faster R-CNN"),
        (prepare(model, "float32"), data, {}, "only detects; attack the one of rcnnkit.load"),
        (softmax, data, {"method": "dag"}, "dag attacks the regions of a Fast or Faster R-CNN; take fgsm or pgd"),
        (model, data, {"method": "cw"}, "method 'cw' is not one of fgsm, pgd, dag"),
        (model, data, {"eps": 0}, "eps = 0 grey levels; give 1 to 255"),
        (model, data, {"steps": 5}, "steps = 5 does not go with fgsm; leave it out"),
        (model, none, {}, "none has no pictures; there is nothing to attack"),
    ]
    for victim, pictures, options, words in cases:
        given: dict[str, Any] = {"method": "fgsm", "eps": 2} | options
        with pytest.raises(ValueError, match=words.replace("(", r"\(")):
            attack(victim, pictures, tmp_path / "out", **given)
        assert not (tmp_path / "out").exists()
    with pytest.raises(FileExistsError, match="full is not an empty folder"):
        attack(model, data, tmp_path / "full", method="fgsm", eps=2)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
