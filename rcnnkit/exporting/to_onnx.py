"""ONNX (https://onnx.ai), by operators of its standard alone."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rcnnkit.defaults import OPSET
from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.placeholders import LIBRARY, LOWEST, suppress
from rcnnkit.exporting.runtimes import check_installed
from rcnnkit.exporting.traced import traced

OLDEST, NEWEST = OPSET, 20  # the newest is the newest that torch's exporter writes


def to_onnx(
    detector: Detector,
    path: Path,
    about: Mapping[str, Any],
    *,
    with_preprocessing: bool,
    opset: int = OPSET,
    inside: bool = False,
) -> None:
    """Write an ONNX file.

    Args:
        detector: on the CPU, float32, in eval mode.
        about: what the file says of itself, in JSON under "rcnnkit" in its metadata.
        opset: of the standard.
        inside: with outputs from inside, by the names of `Traced.layers`.

    Raises:
        ValueError: an opset that is too old or too new, a detector that has no place in the format, or onnx is not
            installed.
    """
    if not OLDEST <= opset <= NEWEST:
        raise ValueError(f"opset {opset} is not one of {OLDEST} to {NEWEST}, which have all operators; leave it out")
    onnx = _onnx()
    module = traced(detector, suppress, with_preprocessing, inside)
    _register(opset)
    file, said = io.BytesIO(), io.StringIO()
    # torch's other exporter, by torch.export, takes thirty times as long for open sizes.
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(said):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            module.examples(),
            file,  # type: ignore[arg-type]  # an open file does, too
            dynamo=False,
            opset_version=opset,
            input_names=list(module.inputs),
            output_names=list(module.all_outputs),
            dynamic_axes={name: dict(sides) for name, sides in module.dynamic.items()},
        )
    model = onnx.load_from_string(file.getvalue())
    model.producer_name = "rcnnkit"
    onnx.helper.set_model_props(model, {"rcnnkit": json.dumps(dict(about) | module.names())})
    others = {node.domain for node in model.graph.node} - {""}
    if others:
        raise ValueError(f"the file would need operators that ONNX does not have: those of {', '.join(sorted(others))}")
    onnx.checker.check_model(model)
    onnx.save(model, path)


def with_threshold(file: Path, path: Path, threshold: float) -> None:
    """Write an ONNX file once more, with another score threshold."""
    onnx = _onnx()
    model = onnx.load(str(file))
    (value,) = (value for value in model.graph.initializer if value.name == "score_threshold")
    value.CopyFrom(onnx.numpy_helper.from_array(np.array(threshold, np.float32), value.name))
    onnx.save(model, path)


def _onnx() -> Any:
    check_installed("onnx", ".onnx")
    import onnx

    return onnx


def _register(opset: int) -> None:
    """What takes the place of our operators."""
    from torch.onnx import register_custom_op_symbolic
    from torch.onnx import symbolic_helper as helper

    def constant(g: Any, value: float, dtype: torch.dtype) -> Any:
        return g.op("Constant", value_t=torch.tensor([value], dtype=dtype))

    def part(g: Any, values: Any, axis: int, start: int, end: int) -> Any:
        numbers = [constant(g, number, torch.int64) for number in (start, end, axis)]
        return g.op("Slice", values, *numbers)

    @helper.parse_args("v", "v", "f", "i")
    def suppression(g: Any, boxes: Any, scores: Any, iou: float, most: int) -> Any:
        of_one_class = g.op("Unsqueeze", scores, constant(g, 1, torch.int64))  # the groups are the standard's batch
        limits = constant(g, most, torch.int64), constant(g, iou, torch.float32), constant(g, LOWEST, torch.float32)
        kept = g.op("NonMaxSuppression", boxes, of_one_class, *limits)  # (M, 3): batch, class, box
        return g.op("Concat", part(g, kept, 1, 0, 1), part(g, kept, 1, 2, 3), axis_i=1)

    @helper.parse_args("v", "v", "f", "i", "i", "i", "b")
    def roi_align(
        g: Any, maps: Any, rois: Any, scale: float, rows: int, columns: int, sampling_ratio: int, aligned: bool
    ) -> Any:
        picture = g.op("Squeeze", part(g, rois, 1, 0, 1), constant(g, 1, torch.int64))
        return g.op(
            "RoiAlign",
            maps,
            part(g, rois, 1, 1, 5),
            g.op("Cast", picture, to_i=7),  # int64
            mode_s="avg",
            output_height_i=rows,
            output_width_i=columns,
            sampling_ratio_i=max(sampling_ratio, 0),
            spatial_scale_f=scale,
            coordinate_transformation_mode_s="half_pixel" if aligned else "output_half_pixel",
        )

    @helper.parse_args("v", "v", "f", "i", "i", "b")
    def roi_pool(g: Any, maps: Any, rois: Any, scale: float, rows: int, columns: int, _: bool) -> Any:
        pooled = g.op("MaxRoiPool", maps, rois, pooled_shape_i=[rows, columns], spatial_scale_f=scale)
        return pooled, constant(g, 0, torch.int32)  # where the maxima were is for training alone

    symbols: dict[str, Callable[..., Any]] = {
        f"{LIBRARY}::suppress": suppression,
        "rcnnkit::roi_align": roi_align,
        "rcnnkit::roi_pool": roi_pool,
    }
    for name, symbol in symbols.items():
        register_custom_op_symbolic(name, symbol, opset)
