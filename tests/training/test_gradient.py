from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.training.detection import Detection, read_splits
from rcnnkit.training.loop import step
from rcnnkit.training.run import Run
from rcnnkit.training.start import start
from tests.training.runs import QUIET, Values, settings


def task_for(tiny: Values, folder: Path, **train: Any) -> Detection:
    made = settings(tiny, **train)
    run = Run(made, folder, QUIET)
    training, validation = read_splits(made.data)
    return Detection(run, start(run, training, Detector), training, validation, None)


@pytest.mark.parametrize(("samples", "times"), [(8, 1), (500, 2)], ids=["equal", "unequal"])
def test_parts_of_a_batch_are_the_batch(tiny: Values, tmp_path: Path, samples: int, times: int) -> None:
    """To 1e-6; also where pictures have unequal numbers of samples, for which all parts are computed twice."""
    # Norms that see single pictures.
    tiny["model"] |= {"backbone": "resnet18", "norm": "group", "fpn_channels": 32, "fpn_norm": "group"}
    tiny["head"]["samples"] = samples
    found = []
    for accumulate in (1, 2, 3):
        task = task_for(tiny, tmp_path, batch=3, accumulate=accumulate, warmup=0, lr=0.1)
        calls: list[int] = []
        loss_sums = task.model.loss_sums

        def counted(images: Any, *arguments: Any, seen: list[int] = calls, real: Any = loss_sums) -> Any:
            seen.append(len(images))
            return real(images, *arguments)

        task.model.loss_sums = counted
        batch = next(task.batches(0))
        losses = step(task, batch, torch.amp.GradScaler("cpu", enabled=False))
        assert calls == [[3], [1, 2], [1, 1, 1]][accumulate - 1] * (times if accumulate > 1 else 1)
        found.append((losses, list(task.model.parameters())))
    (whole, expected), *others = found
    for losses, weights_ in others:
        assert losses == pytest.approx(whole, rel=1e-6)
        for ours, theirs in zip(weights_, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
