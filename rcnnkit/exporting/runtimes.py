"""An exported file, called as the detector that it was made from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from rcnnkit.boxes import clip
from rcnnkit.files import check_regular
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Array, Detections, Proposals

Arrays = dict[str, np.ndarray]
Opened = tuple[dict[str, Any], Callable[[Arrays], Arrays]]  # what a file says of itself, and what runs it
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}  # what runs files by their endings


class Exported:
    """A file in its runtime.

    Args:
        path: .onnx, .xml or .pt2.
        threads: of onnxruntime and OpenVINO; 0: as many as torch has, as those of torch's own formats.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: its runtime is not installed; or it is of another format, or cannot be opened.
    """

    # What is timed: stage of `rcnnkit benchmark` → methods. "resize" is what is around the file.
    stages: ClassVar[dict[str, tuple[str, ...]]] = {"resize": ("forward",), "runtime": ("run",)}

    def __init__(self, path: Path, threads: int = 0) -> None:
        check_regular(path)
        if path.suffix not in RUNTIMES:
            raise ValueError(f"{path} does not end in one of {', '.join(RUNTIMES)}, which exported files have")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such exported file")
        check_runtime(path.suffix)
        try:
            self.about, self._run = OPENING[path.suffix](str(path), threads or torch.get_num_threads())
            self.preprocessing = Preprocessing.model_validate(self.about["input"])
        except Exception as error:  # of as many kinds as there are runtimes
            raise ValueError(
                f"{path} cannot be opened as an exported file ({_reason(error)}); export it again"
            ) from None
        self.path = path
        self.class_names, self.category_ids = tuple(self.about["class_names"]), tuple(self.about["category_ids"])

    def run(self, feed: Arrays) -> Arrays:
        """Outputs by their names, of inputs by theirs. Raises ValueError where the runtime cannot compute them."""
        try:
            return self._run(feed)
        except Exception as error:  # of as many kinds as there are runtimes
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feed.items())
            told = f"{RUNTIMES[self.path.suffix]} cannot run {self.path.name} with {shapes}: {_reason(error)}"
            least = self.preprocessing.divisor
            if self.path.suffix == ".pt2" and "pixels" in feed and min(feed["pixels"].shape[1:3]) <= least:
                told += f"; such a file takes pictures of more than {least} pixels a side alone, and .onnx files any"
            raise ValueError(told) from None

    def __call__(self, pictures: Sequence[Array], proposals: Sequence[Proposals] | None = None) -> list[Detections]:
        """As `forward`."""
        return self.forward(pictures, proposals)

    def feed(
        self, pictures: Sequence[Array], proposals: Sequence[Proposals] | None = None
    ) -> tuple[Arrays, list[tuple[float, ...]]]:
        """The inputs for a batch, and of each picture what x1, y1, x2, y2 in the file are multiplied by for its own."""
        small = list(pictures)
        if not self.about["with_preprocessing"]:
            small = [self.preprocessing.resize(picture).permute(1, 2, 0).numpy() for picture in pictures]
        sizes = np.array([picture.shape[:2] for picture in small])
        feed: Arrays = {"pixels": np.zeros((len(small), *sizes.max(0), 3), np.uint8), "sizes": sizes}
        for canvas, picture in zip(feed["pixels"], small, strict=True):
            canvas[: picture.shape[0], : picture.shape[1]] = picture
        factors: list[tuple[float, ...]] = [
            (own.shape[1] / new.shape[1], own.shape[0] / new.shape[0]) * 2
            for own, new in zip(pictures, small, strict=True)
        ]
        if proposals is not None:
            most = max(map(len, proposals))
            feed["proposals"] = np.full((len(small), most, 4), [0, 0, -1, -1], np.float32)  # x2 < x1: none
            for room, regions, factor in zip(feed["proposals"], proposals, factors, strict=True):
                room[: len(regions)] = regions.boxes.numpy() / factor
        return {name: feed[name] for name in self.about["inputs"]}, factors

    def forward(self, pictures: Sequence[Array], proposals: Sequence[Proposals] | None = None) -> list[Detections]:
        """What is in each of (H, W, 3) uint8 RGB pictures, as the detector answers.

        Where the file resizes, pictures of different sizes go through it one after the other.

        Raises:
            ValueError: pictures of another type, or proposals are missing or too many; or the runtime fails.
        """
        for picture in pictures:
            if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
                what = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else type(picture)
                raise ValueError(
                    f"an exported file takes pictures (H, W, 3) uint8 RGB, not {what}; rcnnkit.images.read_picture"
                    " makes them of anything"
                )
        if (proposals is None) == ("proposals" in self.about["inputs"]):
            raise ValueError(
                f"{self.path.name} makes its own proposals; leave yours out"
                if proposals is not None
                else f"{self.path.name} also needs the proposals of each picture; pass them"
            )
        if not pictures:
            return []
        if self.about["with_preprocessing"] and len({picture.shape for picture in pictures}) > 1:
            answers = []
            for i, picture in enumerate(pictures):
                answers += self.forward([picture], None if proposals is None else proposals[i : i + 1])
            return answers
        feed, factors = self.feed(pictures, proposals)
        found = self.run(feed)
        answers = []
        for i, (picture, count) in enumerate(zip(pictures, found["counts"], strict=True)):
            boxes = torch.from_numpy((found["boxes"][i, :count] * factors[i]).astype(np.float32))
            scores, labels = (torch.from_numpy(found[name][i, :count]) for name in ("scores", "labels"))
            within = clip(boxes, (picture.shape[0], picture.shape[1]))
            answers.append(Detections(within, scores, labels, self.class_names, self.category_ids))
        return answers


def _open_onnx(path: str, threads: int) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    about = json.loads(session.get_modelmeta().custom_metadata_map["rcnnkit"])
    return about, lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def _open_openvino(path: str, threads: int) -> Opened:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads})
    about = json.loads(model.get_rt_info("rcnnkit").astype(str))
    return about, lambda feed: {port.any_name: np.array(value) for port, value in compiled(feed).items()}


def _open_torch(path: str, _: int) -> Opened:
    import torchvision  # noqa: F401  # its operators nms and roi_align are in the file

    metadata: dict[str, Any] = {"rcnnkit": ""}
    if any("aotinductor" in name for name in zipfile.ZipFile(path).namelist()):
        program: Any = torch._inductor.aoti_load_package(path)
        metadata = program.get_metadata()
    else:
        program = torch.export.load(path, extra_files=metadata).module()
    about = json.loads(metadata["rcnnkit"])

    def run(feed: Arrays) -> Arrays:
        with torch.no_grad():
            answers = program(*(torch.from_numpy(feed[name]).to(about["device"]) for name in about["inputs"]))
        return {name: answer.cpu().numpy() for name, answer in zip(about["outputs"], answers, strict=True)}

    return about, run


OPENING = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt2": _open_torch}


def check_runtime(suffix: str) -> None:
    """Raise ValueError unless what writes and runs files with that ending is installed."""
    check_installed(RUNTIMES[suffix], suffix)


def check_installed(library: str, suffix: str) -> None:
    """Raise ValueError unless the library is installed."""
    if not find_spec(library):
        raise ValueError(f"{suffix} files need {library}, which is not installed: pip install 'rcnnkit[export]'")


def _reason(error: Exception) -> str:
    """The last line that says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
