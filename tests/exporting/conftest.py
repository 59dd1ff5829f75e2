"""Small detectors, and one of them exported once for all tests."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
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


@pytest.fixture(scope="session")
def in_int8(exported: tuple[Detector, Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The files of that detector in int8, as ONNX and, where it is installed, OpenVINO."""
    from rcnnkit.exporting.lowered import int8_files
    from rcnnkit.exporting.proof import random_picture
    from rcnnkit.exporting.to_openvino import from_onnx

    detector, exact, _ = exported
    folder = tmp_path_factory.mktemp("int8")

    def write(_: Detector, path: Path) -> None:
        """The file in float32, which says that it is for int8, as `export` writes it."""
        import onnx

        model = onnx.load(exact)
        (said,) = model.metadata_props
        said.value = json.dumps(json.loads(said.value) | {"precision": "int8"})
        onnx.save(model, path)

    files, picture = [folder / "small_int8.onnx"], random_picture(96, 130, np.random.default_rng(0))
    left_out, _, _ = next(int8_files(detector, files[0], write, shutil.copyfile, [picture]))
    assert not left_out
    if find_spec("openvino"):
        files.append(files[0].with_suffix(".xml"))
        from_onnx(files[0], files[1])
    return tuple(files)
