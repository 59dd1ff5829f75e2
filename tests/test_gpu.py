"""The whole way on a GPU: train, resume, evaluate, detect. Run with `python -m pytest -m gpu`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rcnnkit import weights
from rcnnkit.config_files import check_settings
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.evaluation.report import evaluate
from rcnnkit.training.train import train

pytestmark = pytest.mark.gpu


def test_twenty_steps_resumed_evaluated_and_detected(
    tiny: dict[str, dict[str, Any]], digits: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = tiny["train"] | {"device": "auto", "precision": "auto", "save_every": 10}
    train(check_settings(tiny | {"train": options | {"iterations": 10}}, "test"), run, console=Console(quiet=True))
    best = train(
        check_settings(tiny | {"train": options | {"iterations": 20, "resume": str(run)}}, "test"),
        run,
        console=Console(quiet=True),
    )
    detector = weights.load(best)
    assert detector.device.type == "cuda"
    held_out = read_data(digits, "val", class_names=detector.class_names)
    evaluation = evaluate(detector, held_out)
    assert evaluation.pictures == 4
    path = held_out.records[0].path
    assert isinstance(detector, FasterRCNN)
    detector.head.score_threshold = 0.0
    found = detector(path)
    assert found.boxes.is_cuda
    assert len(found) > 0


def test_the_same_answer_as_on_the_cpu(
    tiny: dict[str, dict[str, Any]], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    best = train(check_settings(tiny, "test"), tmp_path / "run", console=Console(quiet=True))
    answers = []
    for device in ("cpu", "cuda"):
        detector = weights.load(best, device, for_training=True)
        assert isinstance(detector, FasterRCNN)
        detector.head.score_threshold = 0.0
        answers.append(detector(digits / "JPEGImages" / "000001.jpg").to("cpu"))
    on_cpu, on_gpu = answers
    # float32 sums in another order
    torch.testing.assert_close(on_gpu.scores, on_cpu.scores, atol=1e-3, rtol=0)
