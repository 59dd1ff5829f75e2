"""The examples of the documents run as they stand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


def test_a_network_of_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "backbones.md").read_text(), re.DOTALL)
    picture = np.random.default_rng(0).integers(0, 60, (128, 160, 3), dtype=np.uint8)
    picture[30:90, 20:80] += 150
    Image.fromarray(picture).save(tmp_path / "pets.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(code, "docs/backbones.md", "exec"), names)
    found = names["detector"]("pets.jpg")
    assert found.names[0] == "dog"
    assert float(found.scores[0]) > 0.5
    assert (found.boxes[0] - torch.tensor([20.0, 30, 80, 90])).abs().max() < 10
    assert capsys.readouterr().out.startswith("[('dog', 0.")
