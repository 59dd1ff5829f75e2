"""OpenVINO's intermediate representation (https://docs.openvino.ai), by way of ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcnnkit.defaults import OPSET
from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.to_onnx import to_onnx


def to_openvino(
    detector: Detector,
    path: Path,
    about: Mapping[str, Any],
    *,
    with_preprocessing: bool,
    opset: int = OPSET,
    inside: bool = False,
) -> None:
    """Write an .xml file, and a .bin file with the weights, in float32, beside it.

    Arguments and errors are those of `rcnnkit.exporting.to_onnx.to_onnx`; `about` is in its runtime information.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.onnx"
        to_onnx(detector, file, about, with_preprocessing=with_preprocessing, opset=opset, inside=inside)
        from_onnx(file, path)


def from_onnx(file: Path, path: Path) -> None:
    """Write an .xml and a .bin file of an ONNX file, with what that says of itself."""
    import openvino

    model = openvino.convert_model(file)
    model.set_rt_info(said_in(file), "rcnnkit")
    openvino.save_model(model, path, compress_to_fp16=False)


def said_in(file: Path) -> str:
    """What an ONNX file says of itself."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    return next(str(prop.value) for prop in model.metadata_props if prop.key == "rcnnkit")
