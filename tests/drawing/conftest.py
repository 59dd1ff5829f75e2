"""Detectors and a classifier with random weights on AlexNet, and pictures for them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit.backbones.classifier import Classifier
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings

DETECTORS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {},
    "fast_rcnn": {"proposals": {"method": "sliding_windows"}},
    "rcnn": {"proposals": {"method": "sliding_windows"}, "rcnn": {"size": 95}},
}
NETWORKS = {**DETECTORS, "classifier": {"input": {}, "classifier": {"resize": 110, "crop": 95}}}


def alexnet(name: str) -> Detector | Classifier:
    """Two classes; in eval mode."""
    settings = DetectorSettings.model_validate(
        {
            "model": {"kind": name, "backbone": "alexnet"},
            "head": {"hidden": 8},
            "input": {"short_side": 128, "long_side": 192},
            **NETWORKS[name],
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(settings, ["a", "b"]).eval()
    assert isinstance(model, Detector | Classifier)
    return model


@pytest.fixture(params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> Detector:
    """Of each kind in turn."""
    made = alexnet(request.param)
    assert isinstance(made, Detector)
    return made


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Detector | Classifier:
    """Of each kind in turn."""
    return alexnet(request.param)


@pytest.fixture
def pictures(digits: Path) -> list[Path]:
    """Three, 96 × 96."""
    return sorted((digits / "JPEGImages").iterdir())[:3]
