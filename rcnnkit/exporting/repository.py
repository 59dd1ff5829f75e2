"""An ONNX file in a repository of models for Triton, and as a service of KServe.

https://docs.nvidia.com/deeplearning/triton-inference-server and https://kserve.github.io/website
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BATCH = 8  # pictures that Triton puts together
DELAY = 5000  # microseconds that one waits for others of its shape
MODEL, CONFIG = "1/model.onnx", "config.pbtxt"  # what Triton looks for; 1 is the version


def check_repository(repository: Path, name: str) -> None:
    """Raise FileExistsError or ValueError unless a new model can go there; for before anything is computed."""
    if repository.exists() and not repository.is_dir():
        raise FileExistsError(f"{repository} is a file; choose a folder, which models go into")
    if (repository / name).exists():
        raise FileExistsError(f"{repository / name} is there already; choose another name for --out, or another folder")


def write_repository(file: Path, repository: Path) -> tuple[Path, Path]:
    """Put a copy of an ONNX file into a repository under the name of the file, and write what describes it.

    Args:
        file: cells.onnx becomes the model cells.
        repository: the folder of models; it is made.

    Returns:
        The model's folder, with config.pbtxt and 1/model.onnx, and the file for KServe beside `file`.

    Raises:
        FileExistsError: one of them is there already.
        OSError: they cannot be written.
    """
    name = file.stem
    service = file.with_suffix(".yaml")
    check_repository(repository, name)
    if service.exists():
        raise FileExistsError(f"{service} is there already; choose another name for --out")
    repository.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".half-", dir=repository) as folder:
        half = Path(folder) / name
        (half / MODEL).parent.mkdir(parents=True)
        shutil.copyfile(file, half / MODEL)
        (half / CONFIG).write_text(triton_config(file), encoding="utf-8")
        half.replace(repository / name)
    service.write_text(kserve_service(name), encoding="utf-8")
    return repository / name, service


def triton_config(file: Path) -> str:
    """config.pbtxt: the inputs and outputs of an ONNX file, whose first side is the batch."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    return (
        'backend: "onnxruntime"\n'
        f"max_batch_size: {BATCH}\n"
        f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}\n"
        f"input [\n{_tensors(graph.input)}\n]\n"
        f"output [\n{_tensors(graph.output)}\n]\n"
    )


def _tensors(values: Iterable[Any]) -> str:
    return ",\n".join(map(_tensor, values))


def _tensor(value: Any) -> str:
    import onnx

    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    kind = {"FLOAT": "FP32", "FLOAT16": "FP16"}.get(kind, kind)
    sides = [side.dim_value or -1 for side in value.type.tensor_type.shape.dim][1:]  # without the batch's
    # A picture has one number of detections, and Triton has no tensors without sides.
    shape = f"dims: [ {', '.join(map(str, sides))} ]" if sides else "dims: [ 1 ] reshape: { shape: [ ] }"
    return f'  {{ name: "{value.name}" data_type: TYPE_{kind} {shape} }}'


def kserve_service(name: str) -> str:
    """An InferenceService that runs the model in Triton."""
    resource = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].rstrip("-") or "detector"
    return (
        f"# Put the folder {json.dumps(name)} where the cluster finds it, name the folder that holds it below, and:\n"
        "#     kubectl apply -f FILE\n"
        "apiVersion: serving.kserve.io/v1beta1\n"
        "kind: InferenceService\n"
        "metadata:\n"
        f'  name: "{resource if resource[0].isalpha() else "detector-" + resource}"\n'
        "spec:\n"
        "  predictor:\n"
        "    model:\n"
        "      modelFormat:\n"
        "        name: onnx\n"
        "      protocolVersion: v2\n"
        "      runtime: kserve-tritonserver\n"
        "      storageUri: pvc://models\n"
    )
