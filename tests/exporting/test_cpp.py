"""The C++ example is built with ONNX Runtime's headers, and finds what the detector finds."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit.exporting.agreement import Limits, difference
from rcnnkit.exporting.export import describe
from rcnnkit.exporting.proof import random_picture
from rcnnkit.structures import Detections
from tests.exporting.conftest import small

SOURCE = Path(__file__).parents[2] / "examples" / "detect_onnx.cpp"
HEADER, LIBRARY = "onnxruntime_cxx_api.h", "libonnxruntime.so"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(os.environ.get("ONNXRUNTIME_ROOT", "/usr"))
    headers = next(iter(sorted((root / "include").rglob(HEADER))), None)
    folder = tmp_path_factory.mktemp("cpp")
    library = next((each for each in (root / "lib", root / "lib64") if any(each.glob(f"{LIBRARY}*"))), None)
    library = library or _of_python(folder)
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not (headers and library and compiler):
        pytest.skip(f"{HEADER}, {LIBRARY} or a C++ compiler is missing; set ONNXRUNTIME_ROOT to the folder of include/")
    built = folder / "detect_onnx"
    command = [compiler, "-std=c++17", "-Wall", "-Werror", str(SOURCE), f"-I{headers.parent}", f"-L{library}"]
    subprocess.run([*command, f"-Wl,-rpath,{library}", "-lonnxruntime", "-o", str(built)], check=True)
    return built


def _of_python(folder: Path) -> Path | None:
    """A folder that has the library of Python's onnxruntime, which comes without headers, by the linker's names."""
    spec = importlib.util.find_spec("onnxruntime")
    places = spec.submodule_search_locations if spec else None
    found = next(iter((Path(next(iter(places))) / "capi").glob(f"{LIBRARY}.*")), None) if places else None
    if not found:
        return None
    for name in (LIBRARY, f"{LIBRARY}.1"):
        (folder / name).symlink_to(found)
    return folder


def test_it_finds_what_the_detector_finds(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from rcnnkit.exporting.to_onnx import to_onnx

    detector = small()
    to_onnx(detector, tmp_path / "a.onnx", describe(detector, True), with_preprocessing=True)
    picture = random_picture(150, 200, np.random.default_rng(0))
    Image.fromarray(picture).save(tmp_path / "a.ppm")
    command = [str(program), str(tmp_path / "a.onnx"), str(tmp_path / "a.ppm")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    values = torch.tensor([[float(value) for value in line.split()] for line in lines])
    found = Detections(values[:, 2:], values[:, 1], values[:, 0].long())
    assert len(found) > 0
    assert difference(detector(picture), found, Limits(0.05, 0.5, 30)) == ""
    bad = subprocess.run([str(program), command[1], str(SOURCE)], capture_output=True, text=True)
    assert (bad.returncode, bad.stderr) == (1, f"error: {SOURCE} is not a binary PPM of 8 bits without comments\n")
