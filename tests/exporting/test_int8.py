"""8-bit layers: close to the float ones, and the one that loses most is named first."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rcnnkit.exporting.int8 import layers_of, to_int8, worst_first
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


def test_the_layer_that_loses_most_is_first(files: tuple[Path, Path, list[Arrays]], tmp_path: Path) -> None:
    """Beside a number of a thousand, one step of 8 bits is larger than the other numbers."""
    exact, small, feeds = files
    order = worst_first(small, feeds[0])
    assert sorted(order) == sorted(layers_of(exact))
    to_int8(exact, tmp_path / "less.onnx", feeds, order[:1], tmp_path / "ranges.json")
    kinds = types(tmp_path / "less.onnx")
    assert [kinds[name] for name in order] == ["FLOAT", "INT8", "INT8"]


def test_ranges_are_measured_once(files: tuple[Path, Path, list[Arrays]], tmp_path: Path) -> None:
    exact, _, feeds = files
    ranges = tmp_path / "ranges.json"
    to_int8(exact, tmp_path / "a.onnx", feeds, (), ranges)
    to_int8(exact, tmp_path / "b.onnx", [], (), ranges)
    assert answers(tmp_path / "a.onnx", feeds[0]).tolist() == answers(tmp_path / "b.onnx", feeds[0]).tolist()
