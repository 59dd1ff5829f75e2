"""The script that is written beside an exported file: detection with numpy, Pillow and the file's runtime alone.

It has fifty lines at most, those that its kind of file needs, and calls the runtime as the runtime's own examples do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ABOUT = '''\
"""Detect objects: python detect.py FILE{suffix} PICTURE…  It needs numpy, Pillow{libraries}.

{prints}
"""

import json
import sys
{path}
import numpy as np
{imports}from PIL import Image, ImageOps
'''
PRINTS = {
    "faster_rcnn": """\
It prints a line for each detection: picture, class, score, and x1, y1, x2, y2 in the picture's pixels.""",
    "fast_rcnn": """\
It prints picture, class, score, and x1, y1, x2, y2 in pixels. picture.npy has the regions of picture.jpg, (N, 4).""",
    "rcnn": """\
Each picture is a window of an R-CNN. A line for each class is printed: picture, class, score.""",
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """The lines that a format needs."""

    libraries: str
    imports: str
    open: str  # `path` → `model`, which runs, and `about`, what the file says of itself
    run: str  # `model`, and a tuple of `inputs` → outputs; both in the order that `about` has
    numbers: str = ""  # makes an array of an output


OPEN_ONNX = """\
    onnxruntime.set_default_logger_severity(3)
    model = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(model.get_modelmeta().custom_metadata_map["rcnnkit"])
"""
RUN_ONNX = 'model.run(about["outputs"], dict(zip(about["inputs"], inputs)))'
OPEN_OPENVINO = """\
    core = openvino.Core()
    read = core.read_model(path)
    model = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    about = json.loads(read.get_rt_info("rcnnkit").astype(str))
"""
OPEN_PROGRAM = """\
    metadata = {"rcnnkit": ""}
    model = torch.export.load(path, extra_files=metadata).module()
    about = json.loads(metadata["rcnnkit"])
"""
OPEN_PACKAGE = """\
    model = torch._inductor.aoti_load_package(path)
    about = json.loads(model.get_metadata()["rcnnkit"])
"""
TORCH = ", torch and torchvision"
IMPORT_TORCH = """\
import torch
import torchvision  # noqa: F401  # its operators are in the file
"""
RUN_TORCH = "model(*map(torch.from_numpy, inputs))"
RUNTIMES = {
    "onnx": Runtime(" and onnxruntime", "import onnxruntime\n", OPEN_ONNX, RUN_ONNX),
    "openvino": Runtime(" and openvino", "import openvino\n", OPEN_OPENVINO, "model(inputs).to_tuple()"),
    "torch": Runtime(TORCH, IMPORT_TORCH, OPEN_PROGRAM, RUN_TORCH, ".detach().numpy()"),
    "aoti": Runtime(TORCH, IMPORT_TORCH, OPEN_PACKAGE, RUN_TORCH, ".detach().numpy()"),
}

OPENCV = '''\


def resize(picture, rule):
    """To the size that the detector was trained with, by OpenCV's bilinear filter, equal to the last bit."""
    sides, taps = picture.shape[:2], []  # for each new row and column the two old ones, and their weights, of 11 bits
    ratio = min((rule["short_side"] or min(sides)) / min(sides), rule["long_side"] / max(sides))
    for side in sides:
        new = max(1, int(side * ratio))
        place = ((np.arange(new) + 0.5) * (1 / (new / side)) - 0.5).astype(np.float32)
        pair = np.clip([np.floor(place), np.floor(place) + 1], 0, side - 1).astype(int)
        weights = np.rint(2048 * np.stack([1 - place % 1, place % 1])).astype(np.int32)
        taps.append((pair, weights[..., None]))
    (rows, down), (columns, across) = taps
    wide = (picture[:, columns] * across).sum(1) >> 4
    return (((wide[rows] * down[..., None] >> 16).sum(0) + 2) >> 2).astype(np.uint8)
'''
PILLOW = '''\


def resize(picture, rule):
    """To the size that the detector was trained with, by Pillow's bilinear filter."""
    sides = picture.shape[:2]
    ratio = min((rule["short_side"] or min(sides)) / min(sides), rule["long_side"] / max(sides))
    height, width = (max(1, int(side * ratio + 0.5)) for side in sides)
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
'''
RESIZING = {"opencv": OPENCV, "detectron2": PILLOW}  # of the third rule, no file comes without preprocessing

DETECT = '''\


def detect(model, about, picture{regions}):
    """(H, W, 3) uint8 RGB → boxes (N, 4) in its pixels, scores (N,) and labels (N,), best first."""
'''
RESIZED = """\
    small = resize(picture, about["input"])
    factor = np.divide(picture.shape[1::-1] * 2, small.shape[1::-1] * 2)  # of x, y, x, y
"""
FOUND = """\
    inputs = {inputs}
    found = {run}
    boxes, scores, labels, count = (values[0]{numbers} for values in found)
    return boxes[:count]{factor}, scores[:count], labels[:count]
"""

MAIN = """\


if __name__ == "__main__":
    _, path, *names = sys.argv if len(sys.argv) > 2 else sys.exit(__doc__)
{open}    for name in names:
        picture = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
"""
READ_REGIONS = """\
        regions = np.load(Path(name).with_suffix(".npy"))
"""
PRINT_OBJECTS = """\
        for box, score, label in zip(*detect(model, about, np.array(picture){regions})):
            print(name, about["class_names"][label], f"{{score:.3f}}", *(f"{{side:.1f}}" for side in box))
"""
PRINT_WINDOWS = """\
        window = picture.resize((about["window"],) * 2, Image.Resampling.BILINEAR)
        inputs = (np.array(window)[None],)
        found = {run}
        for title, score in zip(about["class_names"], found[0][0]):
            print(name, title, f"{{score:.3f}}")
"""


def script(format: str, suffix: str, about: Mapping[str, Any]) -> str:
    """The text of detect.py.

    Args:
        format: one of `rcnnkit.exporting.export.FORMATS`.
        suffix: of its files.
        about: what the file says of itself.
    """
    runtime, kind = RUNTIMES[format], about["kind"]
    takes_regions, resizes = kind == "fast_rcnn", not about["with_preprocessing"]
    path = "from pathlib import Path\n" * takes_regions
    head = ABOUT.format(
        suffix=suffix, libraries=runtime.libraries, prints=PRINTS[kind], path=path, imports=runtime.imports
    )
    main = MAIN.format(open=runtime.open)
    if kind == "rcnn":
        return head + main + PRINT_WINDOWS.format(run=runtime.run)
    inputs = ["small[None]", "np.array([small.shape[:2]])"] if resizes else ["picture[None]"]
    if takes_regions:
        inputs.append(f"{'(regions / factor)' if resizes else 'regions'}[None].astype(np.float32)")
    given = ", ".join(inputs) if len(inputs) > 1 else f"({inputs[0]},)"
    found = FOUND.format(inputs=given, run=runtime.run, numbers=runtime.numbers, factor=" * factor" if resizes else "")
    regions = ", regions" * takes_regions
    resizing = RESIZING.get(about["input"]["resizing"], "") * resizes
    detect = DETECT.format(regions=regions) + RESIZED * resizes + found
    return head + resizing + detect + main + READ_REGIONS * takes_regions + PRINT_OBJECTS.format(regions=regions)
