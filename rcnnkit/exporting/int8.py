"""8-bit whole numbers for the layers of an ONNX file, by onnxruntime's post-training quantisation.

Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3: weights per channel,
activations per tensor, ranges from calibration pictures. https://onnxruntime.ai/docs/performance/model-optimizations
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rcnnkit.exporting.runtimes import Arrays

LAYERS = ("Conv", "Gemm", "MatMul")  # those with weights
BETWEEN = ("Relu", "Add", "MaxPool")  # so that numbers stay whole from one layer to the next
PARTS = ("/backbone/", "/rpn/", "/head/", "/layers/")  # of names, which torch's exporter makes of modules'
CROP = 256  # pixels of a side, to look at errors; all activations of a large picture take gigabytes


def layers_of(file: Path) -> list[str]:
    """The names of an ONNX file's layers with weights."""
    import onnx

    nodes = onnx.load(str(file), load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type in LAYERS]


def to_int8(file: Path, path: Path, feeds: Sequence[Arrays], left_out: Collection[str], ranges: Path) -> None:
    """Write an ONNX file once more, its layers in 8 bits: QuantizeLinear and DequantizeLinear around each.

    Args:
        feeds: inputs of the file, to calibrate with.
        left_out: names of layers that stay in float32.
        ranges: a file with the ranges of activations, which is written where it is not there.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Arrays | None:
            return next(self.left, None)

    nodes = onnx.load(str(file), load_external_data=False).graph.node
    names = [
        node.name
        for node in nodes
        if node.name not in left_out
        and (
            node.op_type in LAYERS
            or (node.op_type in BETWEEN and any(part in node.name for part in PARTS) and "backbone" in node.name)
        )
    ]
    with _quiet():
        quantize_static(
            str(file),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*LAYERS, *BETWEEN],
            per_channel=True,
            reduce_range=True,  # 7 bits for weights: without VNNI, sums of products in 16 bits overflow
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=names,
            calibration_cache_path=str(ranges),
        )


def worst_first(path: Path, feed: Arrays) -> list[str]:
    """The layers of a file of `to_int8`, those whose input loses most by rounding first."""
    import onnx
    from onnxruntime.quantization import qdq_loss_debug as debug

    crop = dict(feed)
    crop["pixels"] = feed["pixels"][:1, :CROP, :CROP]
    if "sizes" in feed:
        crop["sizes"] = np.minimum(feed["sizes"][:1], crop["pixels"].shape[1:3])
    if "proposals" in feed:
        crop["proposals"] = np.minimum(feed["proposals"][:1], min(crop["pixels"].shape[1:3]))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _quiet():
        seen = Path(folder) / "seen.onnx"
        debug.modify_model_output_intermediate_tensors(str(path), str(seen), ["QuantizeLinear", "DequantizeLinear"])
        values = debug.collect_activations(str(seen), iter([crop]))
    signal_to_noise: dict[str, float] = {}  # of each tensor: signal to noise
    for name, pair in debug.create_activation_matching(values).items():
        signal_to_noise[name] = debug.compute_signal_to_quantization_noice_ratio(pair["pre_qdq"], pair["post_qdq"])
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    makers = {output: node for node in nodes for output in node.output}

    def source(name: str) -> str:
        """The tensor that a layer's input is the rounded form of."""
        while name in makers and makers[name].op_type in ("QuantizeLinear", "DequantizeLinear"):
            name = makers[name].input[0]
        return name

    ratios = {
        node.name: min(signal_to_noise.get(source(node.input[0]), np.inf), signal_to_noise.get(node.output[0], np.inf))
        for node in nodes
        if node.op_type in LAYERS
    }
    return sorted(ratios, key=lambda name: ratios[name])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice, which is for its own commands."""
    before: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
