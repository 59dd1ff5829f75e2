"""Small detectors, and one of them exported once for all tests."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.settings import DetectorSettings


def settings(kind: str = "faster_rcnn", **sections: Any) -> DetectorSettings:
    values: dict[str, Any] = {
        "model": {"kind": kind, "backbone": "timm/test_resnet", "fpn_channels": 16},
        "proposals": {"method": "precomputed"},
        "rpn": {"anchor_sizes": [[16], [32], [64], [128], [256]], "pre_nms": 50, "post_nms": 50},
        "head": {"hidden": 16, "max_detections": 30},
        "rcnn": {"size": 32, "context": 4},
        "input": {"short_side": 96, "long_side": 160},
    }
    for name, section in sections.items():
        values[name] = values[name] | section
    return DetectorSettings.model_validate(values)


def small(kind: str = "faster_rcnn", **sections: Any) -> Detector:
    """Random, with scores far enough apart that rounding changes no order."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        detector = build(settings(kind, **sections), ["cat", "dog"], [17, 18])
        for name, value in detector.state_dict().items():
            if value.ndim > 1 and not name.startswith("backbone."):
                value.normal_(std=value[0].numel() ** -0.5)
    assert isinstance(detector, Detector)
    return detector.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path, str]:
    """A Faster R-CNN, its ONNX file, and what the proof said."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from rcnnkit.exporting.export import export

    folder = tmp_path_factory.mktemp("exported")
    detector = small()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rcnnkit.exporting.proof.SIDES", ((96, 130), (97, 61), (64, 200)))
        proof = export(detector, folder / "small.onnx")
    return detector, folder / "small.onnx", str(proof)
