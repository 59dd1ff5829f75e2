"""The whole way on a GPU: train, resume, evaluate, detect. Run with `python -m pytest -m gpu`."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rcnnkit import weights
from rcnnkit.config_files import check_settings
from rcnnkit.data.reading import read_data
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.evaluation.report import evaluate
from rcnnkit.inference import prepare
from rcnnkit.ops.library import find
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


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_batch_waits_once_for_the_device(tiny: dict[str, dict[str, Any]], digits: Path, precision: str) -> None:
    if find("librcnnkit_ops_cuda.so") is None:
        pytest.skip("rcnnkit was built without its CUDA operators, and torchvision's wait")
    settings = DetectorSettings.model_validate({part: tiny[part] for part in ("model", "rpn", "head", "input")})
    built = build(settings, ["a", "b"]).cuda().eval()
    assert isinstance(built, FasterRCNN)
    detector = prepare(built, precision)
    (images,) = detector.batches(sorted((digits / "JPEGImages").iterdir())[:3])
    torch.cuda.set_sync_debug_mode("warn")
    try:
        for _ in range(2):  # what is set up once may wait
            with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                detector.detect(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(each.message) for each in caught if "synchronizing" in str(each.message)]
    assert len(waits) == 1, waits


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
