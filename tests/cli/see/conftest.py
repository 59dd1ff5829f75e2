from pathlib import Path

import pytest

from tests.cli.commands import ALEXNET, saved


@pytest.fixture
def alexnet(tmp_path: Path) -> Path:
    """Weights of a Faster R-CNN on AlexNet, untrained: it detects something, if nothing sensible."""
    return saved(ALEXNET, tmp_path / "alexnet.safetensors")
