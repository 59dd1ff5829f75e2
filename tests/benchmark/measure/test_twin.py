from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from rcnnkit import weights
from rcnnkit.benchmark.measure.contenders import trained
from rcnnkit.benchmark.measure.twin import to_torchvision, torchvision_contender
from rcnnkit.benchmark.options import Options
from rcnnkit.detectors.faster_rcnn import FasterRCNN
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.importing.torchvision_detectors import from_torchvision

Values = dict[str, dict[str, Any]]


def ours(tiny: Values, **sections: Any) -> tuple[FasterRCNN, DetectorSettings]:
    small = tiny | {"model": tiny["model"] | {"backbone": "resnet18", "norm": "batch"}}
    values = {name: small[name] | sections.get(name, {}) for name in ("model", "rpn", "head", "input")}
    settings = DetectorSettings.model_validate(values | {k: v for k, v in sections.items() if k not in values})
    torch.manual_seed(0)
    detector = build(settings, ["a", "b", "c"]).eval()
    assert isinstance(detector, FasterRCNN)
    # Wide enough apart that scores are no ties, and norms that have seen something.
    seen = ("running_mean", "score_layer.bias", *(f"{kind}_layer.weight" for kind in ("score", "delta", "objectness")))
    for name, value in detector.state_dict().items():
        if name.endswith(seen):
            value.normal_(std=0.05)
    return detector, settings


@pytest.mark.parametrize("fpn_norm", ["batch", "none"])
def test_torchvision_answers_the_same(tiny: Values, fpn_norm: str) -> None:
    detector, settings = ours(tiny, model={"fpn_norm": fpn_norm}, rpn={"convs": 2})
    picture = torch.rand(3, 80, 120, generator=torch.Generator().manual_seed(1))
    twin = to_torchvision(detector, settings)
    with torch.no_grad():
        theirs, found = twin([picture])[0], detector(picture)
    assert len(found) > 20
    torch.testing.assert_close(theirs["boxes"], found.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(theirs["scores"], found.scores, rtol=0, atol=1e-5)
    assert torch.equal(theirs["labels"] - 1, found.labels)


def test_there_and_back(tiny: Values) -> None:
    detector, settings = ours(tiny, model={"fpn_norm": "none"})
    again, _ = from_torchvision(to_torchvision(detector, settings), ["a", "b", "c"])
    state = again.state_dict()
    assert state.keys() == detector.state_dict().keys()
    for name, value in detector.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_the_contender_takes_decoded_pictures(tiny: Values, tmp_path: Path) -> None:
    detector, settings = ours(tiny)
    weights.save(detector, settings, tmp_path / "ours.safetensors")
    ready = trained([tmp_path / "ours.safetensors"])[0]
    contender = torchvision_contender(ready, Options(device="cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    pictures = [cv2.resize(pixels, (width, 96), interpolation=cv2.INTER_CUBIC) for width in (96, 96)]
    for theirs, mine in zip(contender.detect(pictures), detector(pictures), strict=True):
        torch.testing.assert_close(theirs.boxes, mine.boxes, rtol=0, atol=1e-2)  # no resizing, so no rounding to 8 bits
        assert theirs.names == mine.names


def test_what_torchvision_does_not_have(tiny: Values) -> None:
    detector, settings = ours(tiny)
    for section, name, value in (
        ("model", "pool", "roi_pool"),
        ("model", "aligned", True),
        ("model", "neck", "c4"),
        ("head", "class_agnostic", True),
        ("head", "fc6_rank", 4),
        ("input", "short_side", 0),
    ):
        changed = settings.model_dump()
        changed[section][name] = value
        with pytest.raises(ValueError, match=f"torchvision's Faster R-CNN does not have .*{name}"):
            to_torchvision(detector, DetectorSettings.model_validate(changed))
