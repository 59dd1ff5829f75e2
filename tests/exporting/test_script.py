"""The script beside a file: short, without rcnnkit, and it gives the file what `Exported` does."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnnkit.exporting.export import FORMATS, describe
from rcnnkit.exporting.proof import random_picture
from rcnnkit.exporting.runtimes import Exported
from rcnnkit.exporting.script import script
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Array, Proposals
from tests.exporting.conftest import small

KINDS = [
    (kind, inside, rule)
    for kind in ("faster_rcnn", "fast_rcnn", "rcnn")
    for inside in (False, True)
    for rule in ("opencv", "detectron2")
    if not (inside and (rule == "detectron2" or kind == "rcnn"))
]


def about(kind: str, inside: bool, rule: str = "opencv", **more: Any) -> dict[str, Any]:
    inputs = ["pixels", *["sizes"] * (not inside), *["proposals"] * (kind == "fast_rcnn")]
    outputs = ["boxes", "scores", "labels", "counts"]
    preprocessing = Preprocessing(short_side=60, long_side=90, resizing=rule)  # type: ignore[arg-type]  # one of them
    said = {"kind": kind, "with_preprocessing": inside, "inputs": inputs, "outputs": outputs}
    return said | {"input": preprocessing.model_dump(mode="json")} | more


def functions(format: str, said: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Those of a script, without libraries that may be missing."""
    lines = script(format, FORMATS[format].suffix, said).splitlines()
    lines = [line for line in lines if not line.startswith(("import onnx", "import openvino"))]
    (folder / "script.py").write_text("\n".join(lines), encoding="utf-8")
    return runpy.run_path(str(folder / "script.py"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("kind", "inside", "rule"), KINDS)
def test_it_has_fifty_lines_at_most_and_needs_no_rcnnkit(format: str, kind: str, inside: bool, rule: str) -> None:
    text = script(format, FORMATS[format].suffix, about(kind, inside, rule))
    compile(text, "detect.py", "exec")
    lines = text.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 120
    libraries = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    own = {"onnx": {"onnxruntime"}, "openvino": {"openvino"}}.get(format, {"torch", "torchvision"})
    assert libraries - {"json", "sys", "pathlib"} == own | {"numpy", "PIL"}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("kind", "inside", "rule"), [case for case in KINDS if case[0] != "rcnn"])
def test_it_feeds_the_file_as_the_library_does(format: str, kind: str, inside: bool, rule: str, tmp_path: Path) -> None:
    said = about(kind, inside, rule)
    picture = random_picture(97, 141, np.random.default_rng(0))
    regions = torch.tensor([[3.0, 4, 30, 50], [0, 0, 141, 97]])
    exported = Exported.__new__(Exported)  # without a file
    exported.about, exported.preprocessing = said, Preprocessing.model_validate(said["input"])
    proposals = [Proposals(regions, torch.ones(2))] if kind == "fast_rcnn" else None
    wanted, factors = exported.feed([picture], proposals)
    given: list[Array] = []
    rows = np.array([[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]], np.float32)
    found = [rows, rows[..., 0], rows[..., 1], np.array([2])]

    def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
        given[:] = [values.numpy() for values in inputs]
        return [torch.from_numpy(values) for values in found]

    class Session:
        """As onnxruntime's."""

        def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
            assert names == said["outputs"]
            given[:] = [feed[name] for name in wanted]
            assert len(feed) == len(given)
            return found

    class Compiled:
        """As OpenVINO's."""

        def __call__(self, inputs: tuple[Array, ...]) -> "Compiled":
            given[:] = inputs
            return self

        def to_tuple(self) -> tuple[Array, ...]:
            return tuple(found)

    models = {"onnx": Session(), "openvino": Compiled(), "torch": run, "aoti": run}
    detect = functions(format, said, tmp_path)["detect"]
    boxes, scores, labels = detect(models[format], said, picture, *([regions.numpy()] if proposals else []))
    for (name, values), own in zip(wanted.items(), given, strict=True):
        assert own.dtype == values.dtype
        assert np.array_equal(own, values), name
    np.testing.assert_allclose(boxes, np.array([[1, 2, 3, 4], [5, 6, 7, 8]]) * factors[0])
    assert (scores.tolist(), labels.tolist()) == ([1, 5], [2, 6])


SIZES = [(1, 1), (3, 200), (97, 61), (120, 160), (200, 300), (211, 300), (480, 333), (50, 49)]


@pytest.mark.parametrize(("short", "long"), [(96, 160), (60, 1000), (200, 333), (0, 150)])
@pytest.mark.parametrize("rule", ["opencv", "detectron2"])
def test_it_resizes_as_the_detector(short: int, long: int, rule: Any, tmp_path: Path) -> None:
    preprocessing = Preprocessing(short_side=short, long_side=long, resizing=rule)
    resize = functions("onnx", about("faster_rcnn", False, rule), tmp_path)["resize"]
    for height, width in SIZES:
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = preprocessing.resize(picture).permute(1, 2, 0).numpy()
        assert np.array_equal(resize(picture, preprocessing.model_dump(mode="json")), wanted), (height, width)


def test_what_a_file_says_is_enough() -> None:
    said = describe(small(), False)
    assert script("onnx", ".onnx", said) == script("onnx", ".onnx", about("faster_rcnn", False))
