"""An exported file, called as the detector that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from rcnnkit.boxes import clip
from rcnnkit.exporting.detect import Arrays, detect, open_file
from rcnnkit.files import check_regular
from rcnnkit.structures import Array, Detections, Proposals

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
            self.about, self._run = open_file(str(path), threads or torch.get_num_threads())
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
            raise ValueError(
                f"{RUNTIMES[self.path.suffix]} cannot run {self.path.name} with {shapes}: {_reason(error)}"
            ) from None

    def __call__(self, pictures: Sequence[Array], proposals: Sequence[Proposals] | None = None) -> list[Detections]:
        """As `forward`."""
        return self.forward(pictures, proposals)

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
        regions = None if proposals is None else [each.boxes.numpy() for each in proposals]
        if not pictures:
            return []
        if self.about["with_preprocessing"] and len({picture.shape for picture in pictures}) > 1:
            answers = []
            for i, picture in enumerate(pictures):
                answers += self.forward([picture], None if proposals is None else proposals[i : i + 1])
            return answers
        found = detect(self.about, self.run, list(pictures), regions)
        return [self._detections(picture, *of_picture) for picture, of_picture in zip(pictures, found, strict=True)]

    def _detections(self, picture: Array, boxes: Array, scores: Array, labels: Array) -> Detections:
        within = clip(torch.from_numpy(boxes), (picture.shape[0], picture.shape[1]))
        return Detections(
            within, torch.from_numpy(scores), torch.from_numpy(labels), self.class_names, self.category_ids
        )


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
