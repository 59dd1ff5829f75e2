"""A small detector, and pictures without annotations."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.proof import random_picture
from tests.exporting.conftest import small

SIZES = {"a.png": (40, 60), "b.png": (60, 40), "deep/a.png": (50, 50), "deep/d.png": (64, 96)}  # height, width


@pytest.fixture(scope="package")
def detector() -> Detector:
    return small(
        input={"short_side": 64, "long_side": 96}, head={"max_detections": 6, "score_threshold": 0.01, "min_side": 4}
    )


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, two of one name."""
    root = tmp_path_factory.mktemp("unlabelled")
    for seed, (name, size) in enumerate(SIZES.items()):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random_picture(*size, np.random.default_rng(seed))).save(root / name)
    return root
