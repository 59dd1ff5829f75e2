"""What several tests share: where real data lies, and the GPU where there is one."""

import os
from pathlib import Path

import pytest
import torch

DATA = Path(os.environ.get("RCNNKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch sees none")


def _folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there; set RCNNKIT_TEST_DATA to the folder that holds {name}")
    return DATA / name


@pytest.fixture
def bccd() -> Path:
    """364 microscope pictures in Pascal VOC's layout."""
    return _folder("bccd")


@pytest.fixture
def coco256() -> Path:
    """256 pictures of COCO 2017 in COCO's layout."""
    return _folder("coco256")
