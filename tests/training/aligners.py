"""Pictures with sentences, and a detector to align them with, for tests of training and of commands."""

from pathlib import Path
from typing import Any

import torch

from rcnnkit import weights
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings

QUICK = [
    *("train.iterations=4", "train.batch=3", "train.warmup=0", "train.log_every=1", "train.evaluate_every=2"),
    *("train.device=cpu", "train.precision=float32", "alignment.minimum_count=1", "alignment.space=8"),
    *("alignment.hidden=8", "alignment.embedding=8", "alignment.regions=4", "data.workers=0", "train.loggers=[]"),
]


def untrained_detector(tiny: dict[str, dict[str, Any]], path: Path) -> Path:
    """Weights that detect something, if nothing sensible."""
    values = {name: tiny[name] for name in ("model", "rpn", "input")}
    settings = DetectorSettings.model_validate(values | {"head": tiny["head"] | {"score_threshold": 0.01}})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(build(settings, ["0", "3", "4", "6", "7"]).eval(), settings, path)
    return path
