"""What several tests share: where real data lies, and the GPU where there is one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run in parallel, also in processes of their own: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from rcnnkit.data.digits import write_digits

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


@pytest.fixture
def selective_search_reference() -> Path:
    """Two pictures of VOC2007 with boxes that the authors of selective search released."""
    return _folder("selective_search_reference")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen pictures of digits, as VOC and as COCO data."""
    root = tmp_path_factory.mktemp("digits") / "data"
    write_digits(root, train=8, val=4, size=(96, 96))
    return root


@pytest.fixture
def tiny(digits: Path) -> dict[str, dict[str, Any]]:
    """Settings of a detector that trains in a second: on timm's smallest ResNet, of a third of a million weights."""
    return {
        "model": {"backbone": "timm/test_resnet", "fpn_channels": 16, "fpn_norm": "batch"},
        "rpn": {
            "anchor_sizes": [[16], [32], [64], [128], [256]],
            **dict.fromkeys(("pre_nms", "post_nms", "train_pre_nms", "train_post_nms"), 50),
        },
        "head": {"hidden": 16, "samples": 16},
        "input": {"short_side": 96, "long_side": 96},
        "data": {"root": str(digits), "workers": 0},
        "train": {
            "iterations": 4,
            "batch": 2,
            "lr": 0.02,
            "warmup": 2,
            "log_every": 1,
            "evaluate_every": 0,
            "device": "cpu",
            "precision": "float32",
        },
    }


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A file of settings, the shortest that there can be."""
    path = tmp_path / "my.toml"
    path.write_text('[data]\nroot = "here"\n')
    return path


@pytest.fixture
def forbidden() -> Iterator[Path]:
    """A file that the test may not read; where root runs it, who may read all, it runs as nobody meanwhile."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "forbidden"
        file.write_bytes(b"secret")
        file.chmod(0)
        try:
            if root:
                os.seteuid(65534)
            yield file
        finally:
            if root:
                os.seteuid(0)
