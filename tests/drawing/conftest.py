"""Detectors with random weights on AlexNet, and pictures for them."""

from pathlib import Path

import pytest
import torch

from rcnnkit.config import DetectorSettings
from rcnnkit.detectors.build import build
from rcnnkit.detectors.detector import Detector

MODELS = {
    "faster_rcnn": {},
    "fast_rcnn": {"proposals": {"method": "sliding_windows"}},
    "rcnn": {"proposals": {"method": "sliding_windows"}, "rcnn": {"size": 95}},
}


def alexnet_settings(name: str) -> DetectorSettings:
    return DetectorSettings.model_validate(
        {
            "model": {"detector": name, "backbone": "alexnet"},
            "head": {"hidden": 8},
            "input": {"short_side": 128, "long_side": 192},
            **MODELS[name],
        }
    )


@pytest.fixture(params=MODELS)
def detector(request: pytest.FixtureRequest) -> Detector:
    """Of each kind in turn; two classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(alexnet_settings(request.param), ["a", "b"]).eval()


@pytest.fixture
def pictures(digits: Path) -> list[Path]:
    """Three, 96 × 96."""
    return sorted((digits / "JPEGImages").iterdir())[:3]
