"""Detect objects with an exported detector. This needs numpy, Pillow and the runtime of the file, and nothing else.

    python detect.py FILE PICTURE…

It prints a line for each detection: picture, class, score, and x1, y1, x2, y2 in the picture's pixels. Weak detections
are printed too: leave out those with low scores.

FILE is .onnx (onnxruntime), .xml (openvino) or .pt2 (torch and torchvision). A Fast R-CNN takes the regions of
picture.jpg, (N, 4) x1, y1, x2, y2 in its pixels, from picture.npy. An R-CNN takes each picture for a window.
"""

import json
import math
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Arrays = dict[str, np.ndarray]


def open_file(path: str, threads: int = 0) -> tuple[dict[str, Any], Callable[[Arrays], Arrays]]:
    """What the file says of itself, and what runs it: inputs by their names → outputs by theirs; 0 threads: its own."""
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        about = json.loads(session.get_modelmeta().custom_metadata_map["rcnnkit"])
        return about, lambda feed: dict(zip(names, session.run(names, feed), strict=True))
    if path.endswith(".xml"):
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        )
        about = json.loads(model.get_rt_info("rcnnkit").astype(str))
        return about, lambda feed: {port.any_name: np.array(value) for port, value in compiled(feed).items()}
    import torch
    import torchvision  # noqa: F401  # its operators nms and roi_align are in the file

    metadata: dict[str, Any] = {"rcnnkit": ""}
    if any("aotinductor" in name for name in zipfile.ZipFile(path).namelist()):
        program: Any = torch._inductor.aoti_load_package(path)
        metadata = program.get_metadata()
    else:
        program = torch.export.load(path, extra_files=metadata).module()
    about = json.loads(metadata["rcnnkit"])
    device = about["device"]

    def run(feed: Arrays) -> Arrays:
        with torch.no_grad():
            answers = program(*(torch.from_numpy(feed[name]).to(device) for name in about["inputs"]))
        return {name: answer.cpu().numpy() for name, answer in zip(about["outputs"], answers, strict=True)}

    return about, run


def resize(picture: np.ndarray, rule: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8, as the detector was trained with: Pillow's bilinear filter, or OpenCV's to the last bit."""
    height, width = picture.shape[:2]
    short = rule["short_side"] or min(height, width)
    ratio = min(short / min(height, width), rule["long_side"] / max(height, width))
    half = 0.5 if rule["resizing"] == "detectron2" else 0
    h, w = (max(1, math.floor(side * ratio + half)) for side in (height, width))
    if rule["resizing"] == "detectron2":
        return np.asarray(Image.fromarray(picture).resize((w, h), Image.Resampling.BILINEAR))

    def taps(side: int, new: int, inside: bool) -> tuple[np.ndarray, ...]:
        place = ((np.arange(new) + 0.5) * (1 / (new / side)) - 0.5).astype(np.float32)
        cell = np.floor(place).astype(int)
        share = np.where(inside & ((cell < 0) | (cell >= side - 1)), np.float32(0), place - cell.astype(np.float32))
        weights = (np.rint(weight * np.float32(2048)).astype(np.int32) for weight in (1 - share, share))
        return cell.clip(0, side - 1), (cell + 1).clip(0, side - 1), *(weight[:, None] for weight in weights)

    left, right, first, second = taps(width, w, True)
    rows = (picture[:, left] * first + picture[:, right] * second) >> 4
    upper, lower, first, second = taps(height, h, False)
    sums = (rows[upper] * first[..., None] >> 16) + (rows[lower] * second[..., None] >> 16)
    return ((sums + 2) >> 2).astype(np.uint8)


def detect(
    about: dict[str, Any], run: Callable[[Arrays], Arrays], pictures: list[np.ndarray], regions: Any = None
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each picture (H, W, 3): boxes (N, 4) in its pixels, scores (N,) and labels (N,), best first.

    Where the file resizes, all pictures are of one size. `regions` are one (N, 4) for each, for a Fast R-CNN alone.
    """
    arrays = pictures if about["with_preprocessing"] else [resize(picture, about["input"]) for picture in pictures]
    sizes = np.array([picture.shape[:2] for picture in arrays])
    feed: Arrays = {"pixels": np.zeros((len(arrays), *sizes.max(0), 3), np.uint8), "sizes": sizes}
    for canvas, picture in zip(feed["pixels"], arrays, strict=True):
        canvas[: picture.shape[0], : picture.shape[1]] = picture
    pairs = zip(pictures, arrays, strict=True)
    factors = [np.array(p.shape[1::-1] * 2) / np.array(s.shape[1::-1] * 2) for p, s in pairs]
    if regions is not None:
        most = max(map(len, regions))
        feed["proposals"] = np.full((len(arrays), most, 4), [0, 0, -1, -1], np.float32)  # x2 < x1: none
        for room, boxes, factor in zip(feed["proposals"], regions, factors, strict=True):
            room[: len(boxes)] = boxes / factor
    answer = run({name: feed[name] for name in about["inputs"]})
    return [
        ((answer["boxes"][i, :n] * factors[i]).astype(np.float32), answer["scores"][i, :n], answer["labels"][i, :n])
        for i, n in enumerate(answer["counts"])
    ]


def main(file: str, *names: str) -> None:
    about, run = open_file(file)
    for name in names:
        picture = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
        if about["kind"] == "rcnn":
            window = np.asarray(picture.resize((about["window"],) * 2, Image.Resampling.BILINEAR))
            for label, score in enumerate(run({"windows": window[None]})["scores"][0]):
                print(name, about["class_names"][label], f"{score:.3f}")
            continue
        regions = [np.load(Path(name).with_suffix(".npy"))] if about["kind"] == "fast_rcnn" else None
        for box, score, label in zip(*detect(about, run, [np.asarray(picture)], regions)[0], strict=True):
            print(name, about["class_names"][label], f"{score:.3f}", *(f"{side:.1f}" for side in box))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
