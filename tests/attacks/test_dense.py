"""Dense Adversary Generation on a small detector."""

from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.attacks.dense import _logits, _targets, dense_adversary
from rcnnkit.attacks.victim import Victim
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.structures import Targets


def victim(tiny: dict[str, dict[str, Any]], classes: int, eps: int) -> Victim:
    values = {name: tiny[name] for name in ("rpn", "input")} | {"head": tiny["head"] | {"foreground_share": 1}}
    values["model"] = tiny["model"] | {"backbone": "resnet18", "norm": "batch"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build(DetectorSettings.model_validate(values), [str(i) for i in range(classes)]).eval()
        assert isinstance(made, FasterRCNN)
        torch.nn.init.normal_(made.head.score_layer.weight, std=1.0)
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    objects = Targets(torch.tensor([[5.0, 5, 60, 60], [30, 20, 90, 90]]), torch.tensor([0, classes - 1]))
    return Victim(made, picture, objects, eps, torch.Generator().manual_seed(0))


def test_targets_are_dense_and_every_class_has_another_one(tiny: dict[str, dict[str, Any]]) -> None:
    for classes in (1, 2, 3):
        attacked = victim(tiny, classes, 2)
        targets = _targets(attacked, attacked.images(attacked.clean))
        assert targets is not None
        boxes, labels, wrong = targets
        assert len(boxes) == len(labels) == len(wrong) > 0
        assert set(labels.tolist()) <= {0, classes - 1}
        assert (labels != wrong).all()
        assert (wrong < classes + (classes == 1)).all()
        assert isinstance(attacked.detector, FasterRCNN)
        assert attacked.detector.rpn.settings.nms_iou == 0.7


def test_fewer_targets_are_called_right_with_a_wide_ball(
    tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rcnnkit.attacks.dense.STEP", 5.0)
    attacked = victim(tiny, 3, 60)
    targets = _targets(attacked, attacked.images(attacked.clean))
    assert targets is not None
    boxes, labels, _ = targets
    detector = attacked.detector
    assert isinstance(detector, FasterRCNN)

    def right(pixels: torch.Tensor) -> int:
        with torch.no_grad():
            return int((_logits(detector, attacked.images(pixels), boxes).argmax(1) == labels).sum())

    attacked.generator.manual_seed(0)
    changed = dense_adversary(attacked, 8)
    assert right(changed) < right(attacked.clean)
    assert (changed - attacked.clean).abs().max() <= 60


def test_a_picture_without_objects_stays_as_it_is(tiny: dict[str, dict[str, Any]]) -> None:
    attacked = victim(tiny, 2, 2)
    attacked.targets = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert dense_adversary(attacked, 3).equal(attacked.clean)
