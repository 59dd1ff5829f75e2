"""8-bit whole numbers for the layers of an ONNX file, by onnxruntime's post-training quantisation.

Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3: weights per channel,
activations per tensor, ranges from calibration pictures. https://onnxruntime.ai/docs/performance/model-optimizations
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rcnnkit.exporting.runtimes import Arrays
from rcnnkit.progress import Report, reported, silent

LAYERS = ("Conv", "Gemm", "MatMul")  # those with weights
BETWEEN = ("Relu", "Add", "MaxPool")  # so that numbers stay whole from one layer to the next


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

    names = _quantised(onnx.load(str(file), load_external_data=False).graph.node, left_out)
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


def _quantised(nodes: Sequence[Any], left_out: Collection[str]) -> list[str]:
    """The names of nodes that become 8-bit: layers, and what is between them where one beside it is such a layer.

    Between two layers that are left out nothing is rounded. Behind an 8-bit layer a Relu is rounded with it.
    """
    small = {node.name for node in nodes if node.op_type in LAYERS and node.name not in left_out}
    makers = {name: node for node in nodes for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def read(output: str) -> bool:
        """Whether an 8-bit layer reads it, or what a Relu or a MaxPool makes of it."""
        return any(
            node.name in small or (node.op_type in BETWEEN and len(node.input) == 1 and read(node.output[0]))
            for node in readers.get(output, ())
        )

    return [
        node.name
        for node in nodes
        if node.name in small
        or (
            node.op_type in BETWEEN
            and "backbone" in node.name
            and (read(node.output[0]) or any(name in makers and makers[name].name in small for name in node.input))
        )
    ]


def sensitive_first(
    file: Path,
    feeds: Sequence[Arrays],
    ranges: Path,
    run: Callable[[Path, Sequence[Arrays]], list[Arrays]],
    error: Callable[[Arrays, Arrays], float],
    progress: Report = silent,
) -> list[str]:
    """The names of layers, those first whose rounding changes the outputs most: each is rounded alone, and tried.

    Nodes that share their weights, as those of an RPN do, are one layer.

    Args:
        file: an ONNX file in float32.
        feeds: inputs to compare the outputs on.
        ranges: as of `to_int8`, which wrote it.
        run: outputs of a file, of inputs.
        error: how far outputs are from those of float32, the first argument.
    """
    import onnx

    layers: dict[str, list[str]] = {}  # by the name of the weights
    for node in onnx.load(str(file), load_external_data=False).graph.node:
        if node.op_type in LAYERS:
            layers.setdefault(node.input[1], []).append(node.name)
    everything = [name for names in layers.values() for name in names]
    wanted = run(file, feeds)
    errors: dict[str, float] = {}
    for weights, names in reported(list(layers.items()), "sensitivity of layers", progress):
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            path = Path(folder) / "one.onnx"
            to_int8(file, path, feeds, [name for name in everything if name not in names], ranges)
            errors[weights] = sum(map(error, wanted, run(path, feeds)))
    order = sorted(layers, key=lambda weights: -errors[weights])
    return [name for weights in order for name in layers[weights]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice, which is for its own commands."""
    before: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
