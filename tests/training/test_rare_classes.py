"""A rare class is found more often where its pictures are repeated: on a long-tailed set of digits."""

import json
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.config_files import check_settings
from rcnnkit.data.coco import write_coco
from rcnnkit.data.digits import write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.training.train import train
from tests.training.runs import QUIET

RARE = "7"
COMMON, FEW = 120, 4  # training pictures without the rare class, and with it


@pytest.fixture(scope="module")
def long_tail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of which one is in 4 of 124 training pictures, and as frequent as the others in the 60 held out."""
    root = tmp_path_factory.mktemp("digits") / "data"
    write_digits(root, train=COMMON, val=60, size=(96, 96))
    write_digits(root / "common", train=COMMON, val=1, size=(96, 96), classes=(0, 3, 4, 6), seed=1)
    mixed = read_data(root, "train")
    common = read_data(root / "common", "train", class_names=mixed.class_names)
    label = list(mixed.class_names).index(RARE)
    few = list(islice((r for r in mixed.records if label in r.targets.labels.tolist()), FEW))
    numbers = count(1)
    records = [Record(next(numbers), r.path, r.size, r.targets) for r in [*common.records, *few]]
    write_coco(Dataset("train", records, mixed.class_names, mixed.category_ids), root / "tail.json")
    return root


def average_precisions(root: Path, run: Path, **options: Any) -> dict[str, float]:
    """AP50 of each class in the pictures held out, after a short training from scratch."""
    values: dict[str, Any] = {
        "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 32, "fpn_norm": "batch"},
        "rpn": {
            "anchor_sizes": [[16], [32], [64], [128], [256]],
            **dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 100),
        },
        "head": {"hidden": 128, "samples": 64},
        "input": {"short_side": 96, "long_side": 96},
        "augment": {"flip": 0.0, "brightness": 0.2, "contrast": 0.2},
        "data": {"root": str(root), "train": "tail.json", "val": "val", "workers": 0},
        "train": {
            **{"iterations": 900, "batch": 4, "lr_for_16": 0.16, "warmup": 50, "schedule": "cosine"},
            **{"evaluate_every": 0, "device": "cpu", "precision": "float32", "validation_losses": False},
            **options,
        },
    }
    train(check_settings(values, "test"), run, console=QUIET)
    classes = json.loads((run / "evaluation.json").read_text())["classes"]
    return {each["name"]: each["AP50"] for each in classes}


@pytest.mark.slow
def test_the_rare_class_is_found_more_often(long_tail: Path, tmp_path: Path) -> None:
    plain = average_precisions(long_tail, tmp_path / "plain")
    repeated = average_precisions(long_tail, tmp_path / "repeated", repeat_threshold=0.5)
    print(f"AP50 without repeats {plain}\nAP50 with repeats {repeated}")
    assert repeated[RARE] > plain[RARE] + 0.02
