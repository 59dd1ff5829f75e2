"""What Triton and KServe read: a folder with the file and its config, and a service."""

import shutil
from pathlib import Path

import pytest
import yaml

from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.export import describe, export
from rcnnkit.exporting.repository import kserve_service, triton_config, write_repository
from tests.exporting.conftest import small

PICTURES = """\
backend: "onnxruntime"
max_batch_size: 8
dynamic_batching { max_queue_delay_microseconds: 5000 }
input [
  { name: "pixels" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] },
  { name: "sizes" data_type: TYPE_INT64 dims: [ 2 ] }
]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "labels" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "counts" data_type: TYPE_INT64 dims: [ 1 ] reshape: { shape: [ ] } }
]
"""


def test_a_repository(exported: tuple[Detector, Path, str], tmp_path: Path) -> None:
    _, file, _ = exported
    own = tmp_path / "cells.onnx"
    shutil.copyfile(file, own)
    model, service = write_repository(own, tmp_path / "models")
    assert (model, service) == (tmp_path / "models" / "cells", tmp_path / "cells.yaml")
    written = sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file())
    assert written == ["1/model.onnx", "config.pbtxt"]
    assert (model / "1" / "model.onnx").read_bytes() == own.read_bytes()
    assert (model / "config.pbtxt").read_text() == PICTURES
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["cells"]
    with pytest.raises(FileExistsError, match=r"models/cells is there already; choose another name for --out, or an"):
        write_repository(own, tmp_path / "models")


def test_triton_understands_the_config(exported: tuple[Detector, Path, str]) -> None:
    messages = pytest.importorskip(
        "tritonclient.grpc", reason="tritonclient is not installed: pip install tritonclient[grpc]"
    ).model_config_pb2
    from google.protobuf import text_format

    _, file, _ = exported
    config = text_format.Parse(triton_config(file), messages.ModelConfig())
    assert [(each.name, list(each.dims)) for each in config.input] == [("pixels", [-1, -1, 3]), ("sizes", [2])]
    assert [each.name for each in config.output] == ["boxes", "scores", "labels", "counts"]
    assert config.output[3].HasField("reshape")
    assert list(config.output[3].reshape.shape) == []
    assert config.max_batch_size == 8


def test_every_batch_side_of_the_file_is_open(exported: tuple[Detector, Path, str]) -> None:
    """Triton batches only where the first side of every input and output is."""
    import onnx

    _, file, _ = exported
    graph = onnx.load(file).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 0, value.name


@pytest.mark.parametrize(
    ("name", "resource"), [("cells", "cells"), ("My_Cells 2", "my-cells-2"), ("2", "detector-2"), ("ö", "detector")]
)
def test_a_service(name: str, resource: str) -> None:
    service = yaml.safe_load(kserve_service(name))
    assert service["kind"] == "InferenceService"
    assert service["metadata"] == {"name": resource}
    assert service["spec"]["predictor"]["model"] == {
        "modelFormat": {"name": "onnx"},
        "protocolVersion": "v2",
        "runtime": "kserve-tritonserver",
        "storageUri": "pvc://models",
    }


def test_what_is_in_the_way_is_found_before_the_proof(tmp_path: Path) -> None:
    detector = small()
    (tmp_path / "models" / "a").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"models/a is there already"):
        export(detector, tmp_path / "a.onnx", repository=tmp_path / "models")
    (tmp_path / "b.yaml").write_text("mine")
    with pytest.raises(FileExistsError, match=r"b.yaml is there already"):
        export(detector, tmp_path / "b.onnx", repository=tmp_path / "models")
    with pytest.raises(FileExistsError, match=r"b.yaml is a file; choose a folder, which models go into"):
        export(detector, tmp_path / "c.onnx", repository=tmp_path / "b.yaml")
    with pytest.raises(ValueError, match=r"a repository for Triton is for ONNX, and not for torch; leave it out"):
        export(detector, tmp_path / "c.pt2", "torch", repository=tmp_path / "models")
    assert describe(detector, False)["kind"] == "faster_rcnn"
