"""8-bit layers: close to the float ones, and the one that loses most is named first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rcnnkit.exporting.int8 import layers_of, sensitive_first, to_int8
from rcnnkit.exporting.runtimes import Arrays

onnxruntime = pytest.importorskip("onnxruntime", reason="not installed: pip install 'rcnnkit[export]'")
onnx = pytest.importorskip("onnx", reason="not installed: pip install 'rcnnkit[export]'")


class Net(nn.Module):
    """Two convolutions and a linear layer; one number before the last is far above the others."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.last = nn.Linear(8, 4)
        self.register_buffer("far", torch.tensor([1000.0, 1, 1, 1, 1, 1, 1, 1]))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.backbone(pixels.permute(0, 3, 1, 2) / 255)
        found: torch.Tensor = self.last(maps.mean((2, 3)) * self.far)
        return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Arrays]]:
    """The network as an ONNX file, the same in int8, and what it was calibrated with."""
    folder = tmp_path_factory.mktemp("int8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net().eval()
    exact, small = folder / "exact.onnx", folder / "small.onnx"
    example = (torch.rand(1, 20, 20, 3),)
    torch.onnx.export(net, example, exact, dynamo=False, input_names=["pixels"], opset_version=18)
    generator = np.random.default_rng(0)
    feeds = [{"pixels": generator.uniform(0, 255, (1, 20, 20, 3)).astype(np.float32)} for _ in range(4)]
    to_int8(exact, small, feeds, (), folder / "ranges.json")
    return exact, small, feeds


def answers(file: Path, feed: Arrays) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, feed)[0]
    return found


def types(file: Path) -> dict[str, str]:
    """Of the weights of each layer, of which int8 has those behind a DequantizeLinear."""
    graph = onnx.load(file).graph
    kinds = {value.name: onnx.TensorProto.DataType.Name(value.data_type) for value in graph.initializer}
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.name: kinds[sources.get(node.input[1], node.input[1])]
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    }


def test_all_layers_have_8_bits_and_answer_alike(files: tuple[Path, Path, list[Arrays]]) -> None:
    exact, small, feeds = files
    assert len(layers_of(exact)) == 3
    assert types(exact) == dict.fromkeys(layers_of(exact), "FLOAT")
    assert types(small) == dict.fromkeys(layers_of(exact), "INT8")
    for feed in feeds:
        wanted = answers(exact, feed)
        off = np.abs(answers(small, feed) - wanted).max()
        assert 0 < off < 0.05 * np.abs(wanted).max()


def test_the_layer_that_changes_the_outputs_most_is_first(
    files: tuple[Path, Path, list[Arrays]], tmp_path: Path
) -> None:
    """Beside a number of a thousand, one step of 8 bits is larger than the other numbers, in the last layer."""
    exact, _, feeds = files

    def run(file: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
        return [{"found": answers(file, feed)} for feed in feeds]

    def error(wanted: Arrays, found: Arrays) -> float:
        return float(np.abs(wanted["found"] - found["found"]).sum())

    order = sensitive_first(exact, feeds, tmp_path / "ranges.json", run, error)
    assert sorted(order) == sorted(layers_of(exact))
    assert order[0] == layers_of(exact)[-1]
    alone = []
    for number, name in enumerate(order):
        path = tmp_path / f"{number}.onnx"
        to_int8(exact, path, feeds, [other for other in order if other != name], tmp_path / "ranges.json")
        alone.append(sum(map(error, run(exact, feeds), run(path, feeds))))
        kinds = types(path)
        assert [kinds[other] for other in order] == ["INT8" if other == name else "FLOAT" for other in order]
    assert alone == sorted(alone, reverse=True)


def test_between_layers_in_float32_nothing_is_rounded(files: tuple[Path, Path, list[Arrays]], tmp_path: Path) -> None:
    exact, _, feeds = files
    first, second, _ = layers_of(exact)

    def source(left_out: Sequence[str]) -> str:
        """The operator that makes the second layer's input."""
        file = tmp_path / f"{len(left_out)}.onnx"
        to_int8(exact, file, feeds, left_out, tmp_path / "ranges.json")
        nodes = onnx.load(file).graph.node
        (layer,) = (node for node in nodes if node.name == second)
        return str(next(node.op_type for node in nodes if layer.input[0] in node.output))

    assert source([]) == "DequantizeLinear"
    assert source([second]) == "DequantizeLinear"  # which comes with the 8-bit layer before it
    assert source([first, second]) == "Relu"


def test_ranges_are_measured_once(files: tuple[Path, Path, list[Arrays]], tmp_path: Path) -> None:
    exact, _, feeds = files
    ranges = tmp_path / "ranges.json"
    to_int8(exact, tmp_path / "a.onnx", feeds, (), ranges)
    to_int8(exact, tmp_path / "b.onnx", [], (), ranges)
    assert answers(tmp_path / "a.onnx", feeds[0]).tolist() == answers(tmp_path / "b.onnx", feeds[0]).tolist()
