import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit import weights
from rcnnkit.training.detection import read_splits
from rcnnkit.training.gradient import generators
from rcnnkit.training.train import train
from tests.training.runs import QUIET, Values, settings


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_losses_on_the_validation_pictures(tiny: Values, tmp_path: Path) -> None:
    """Those of the weights in eval mode, over all pictures at once."""
    best = train(settings(tiny, iterations=1), tmp_path / "run", console=QUIET)
    (line,) = [line for line in log(tmp_path / "run") if "AP" in line]
    detector = weights.load(best, "cpu", for_training=True)
    data = read_splits(settings(tiny).data)[1]
    assert data is not None
    records = sorted(data.records, key=lambda record: record.size[0] / record.size[1])
    images = detector.preprocessing([record.path for record in records])
    drawn = generators(0, len(records))
    with torch.no_grad():
        losses = detector.losses(images, [record.targets for record in records], drawn)
    assert {name for name in line if name.startswith("val_")} == {"val_loss", *(f"val_loss_{name}" for name in losses)}
    for name, value in losses.items():
        assert line[f"val_loss_{name}"] == pytest.approx(value.item(), abs=2e-6)
    assert line["val_loss"] == pytest.approx(sum(value.item() for value in losses.values()), abs=5e-6)
    train(settings(tiny, iterations=1, validation_losses=False), tmp_path / "without", console=QUIET)
    assert not any("val_loss" in line for line in log(tmp_path / "without"))
