"""The script that is written beside an exported file: detection with numpy, Pillow and the file's runtime alone.

It has only the lines that its kind of file needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABOUT = '''\
"""Detect objects: python detect.py FILE{suffix} PICTURE…  It needs numpy, Pillow{libraries}.

{prints}
"""
'''
OBJECTS = "It prints a line for each detection: picture, class, score, and x1, y1, x2, y2 in the picture's pixels."
REGIONS = """
The regions of picture.jpg, (N, 4) x1, y1, x2, y2 in its pixels, come from picture.npy."""
WINDOWS = "Each picture is a window of an R-CNN. A line for each class is printed: picture, class, score."

LIBRARIES = {
    "onnx": " and onnxruntime",
    "openvino": " and openvino",
    "torch": ", torch and torchvision",
    "aoti": ", torch and torchvision",
}
TORCH = """\
import torch
import torchvision  # noqa: F401  # its operators are in the file
"""
IMPORTS = {"onnx": "import onnxruntime\n", "openvino": "import openvino\n", "torch": TORCH, "aoti": TORCH}
OPEN = '''\
def open_file(path):
    """What the file says of itself, and a function that runs it: inputs → outputs, both by their names."""
'''
ONNX = """\
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    about = json.loads(session.get_modelmeta().custom_metadata_map["rcnnkit"])
    return about, lambda feed: dict(zip(names, session.run(names, feed)))
"""
OPENVINO = """\
    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    about = json.loads(model.get_rt_info("rcnnkit").astype(str))
    return about, lambda feed: {port.any_name: values for port, values in compiled(feed).items()}
"""
PROGRAM = """\
    metadata = {"rcnnkit": ""}
    program = torch.export.load(path, extra_files=metadata).module()
    about = json.loads(metadata["rcnnkit"])
"""
PACKAGE = """\
    program = torch._inductor.aoti_load_package(path)
    about = json.loads(program.get_metadata()["rcnnkit"])
"""
RUN = """\

    def run(feed):
        found = program(*(torch.from_numpy(feed[name]) for name in about["inputs"]))
        return {name: values.detach().numpy() for name, values in zip(about["outputs"], found)}

    return about, run
"""
OPENING = {"onnx": ONNX, "openvino": OPENVINO, "torch": PROGRAM + RUN, "aoti": PACKAGE + RUN}

TAPS = '''\


def taps(side, new, inside):
    """For each of `new` cells the two of `side` that it lies between, and their weights, of 11 bits."""
    place = ((np.arange(new) + 0.5) * (1 / (new / side)) - 0.5).astype(np.float32)
    cell = np.floor(place)
    share = np.where(inside & ((cell < 0) | (cell >= side - 1)), 0, place - cell)
    weights = (np.rint(part * np.float32(2048)).astype(np.int32)[:, None] for part in (1 - share, share))
    return cell.clip(0, side - 1).astype(int), (cell + 1).clip(0, side - 1).astype(int), *weights
'''
RESIZE = '''\


def resize(picture, rule):
    """To the size that the detector was trained with, by {filter}."""
    sides = picture.shape[:2]
    ratio = min((rule["short_side"] or min(sides)) / min(sides), rule["long_side"] / max(sides))
    height, width = (max(1, int(side * ratio{half})) for side in sides)
'''
OPENCV = """\
    left, right, first, second = taps(sides[1], width, True)
    rows = (picture[:, left] * first + picture[:, right] * second) >> 4
    top, bottom, first, second = taps(sides[0], height, False)
    sums = (rows[top] * first[..., None] >> 16) + (rows[bottom] * second[..., None] >> 16)
    return ((sums + 2) >> 2).astype(np.uint8)
"""
PILLOW = """\
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
"""
RULES = {
    "opencv": TAPS + RESIZE.format(filter="OpenCV's bilinear filter, equal to the last bit", half="") + OPENCV,
    "detectron2": RESIZE.format(filter="Pillow's bilinear filter", half=" + 0.5") + PILLOW,
}

DETECT = '''\


def detect(about, run, picture{regions}):
    """(H, W, 3) uint8 RGB → boxes (N, 4) in its pixels, scores (N,) and labels (N,), best first."""
'''
RESIZED = """\
    small = resize(picture, about["input"])
    factor = np.divide(picture.shape[1::-1] * 2, small.shape[1::-1] * 2)  # of x, y, x, y
"""
FOUND = """\
    found = run({{{feed}}})
    count = found["counts"][0]
    return found["boxes"][0, :count]{factor}, found["scores"][0, :count], found["labels"][0, :count]
"""

MAIN = """\


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    about, run = open_file(sys.argv[1])
    for name in sys.argv[2:]:
        picture = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
"""
READ_REGIONS = """\
        regions = np.load(Path(name).with_suffix(".npy"))
"""
PRINT_OBJECTS = """\
        for box, score, label in zip(*detect(about, run, np.asarray(picture){regions})):
            print(name, about["class_names"][label], f"{{score:.3f}}", *(f"{{side:.1f}}" for side in box))
"""
PRINT_WINDOWS = """\
        window = np.asarray(picture.resize((about["window"],) * 2, Image.Resampling.BILINEAR))
        for title, score in zip(about["class_names"], run({"windows": window[None]})["scores"][0]):
            print(name, title, f"{score:.3f}")
"""


def script(format: str, suffix: str, about: Mapping[str, Any]) -> str:
    """The text of detect.py.

    Args:
        format: one of `rcnnkit.exporting.export.FORMATS`.
        suffix: of its files.
        about: what the file says of itself.
    """
    windows, takes_regions = about["kind"] == "rcnn", about["kind"] == "fast_rcnn"
    prints = WINDOWS if windows else OBJECTS + REGIONS * takes_regions
    text = ABOUT.format(libraries=LIBRARIES[format], suffix=suffix, prints=prints)
    text += "\nimport json\nimport sys\n" + "from pathlib import Path\n" * takes_regions
    text += "\nimport numpy as np\n" + IMPORTS[format] + "from PIL import Image, ImageOps\n"
    text += "\n\n" + OPEN + OPENING[format]
    if windows:
        return text + MAIN + PRINT_WINDOWS
    feed, factor = {"pixels": "picture[None]"}, ""
    if takes_regions:
        feed["proposals"] = "regions[None].astype(np.float32)"
    detect = DETECT.format(regions=", regions" * takes_regions)
    if not about["with_preprocessing"]:
        text += RULES.get(about["input"]["resizing"], "")  # of the third rule, no file comes without preprocessing
        detect += RESIZED
        feed = {"pixels": "small[None]", "sizes": "np.array([small.shape[:2]])"}
        if takes_regions:
            detect += "    regions = (regions / factor).astype(np.float32)\n"
            feed["proposals"] = "regions[None]"
        factor = " * factor"
    detect += FOUND.format(feed=", ".join(f'"{name}": {value}' for name, value in feed.items()), factor=factor)
    main = MAIN + READ_REGIONS * takes_regions + PRINT_OBJECTS.format(regions=", regions" * takes_regions)
    return text + detect + main
