"""An exported file, called as the detector that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from rcnnkit.boxes import clip
from rcnnkit.exporting.detect import Arrays, detect, open_file
from rcnnkit.files import check_regular
from rcnnkit.structures import Array, Detections, Proposals

RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}  # what runs files by their endings


class Exported:
    """A file in its runtime, on as many threads as torch has.

    Args:
        path: .onnx, .xml or .pt2.

    Raises:
        FileNotFoundError: it is not there.
        ImportError: its runtime is not installed.
        ValueError: it is of another format, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        check_regular(path)
        if path.suffix not in RUNTIMES:
            raise ValueError(f"{path} does not end in one of {', '.join(RUNTIMES)}, which exported files have")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such exported file")
        check_runtime(path.suffix)
        try:
            self.about, self._run = open_file(str(path), torch.get_num_threads())
        except Exception as error:  # of as many kinds as there are runtimes
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"{path} is not a file that `rcnnkit export` wrote ({reason[0]}); export it again"
            ) from None
        self.path = path
        self.class_names, self.category_ids = tuple(self.about["class_names"]), tuple(self.about["category_ids"])

    def run(self, feed: Arrays) -> Arrays:
        """Outputs by their names, of inputs by theirs."""
        return self._run(feed)

    def __call__(self, pictures: Sequence[Array], proposals: Sequence[Proposals] | None = None) -> list[Detections]:
        """What is in each of (H, W, 3) uint8 RGB pictures, as the detector answers.

        Where the file resizes, pictures of different sizes go through it one after the other.
        """
        regions = None if proposals is None else [each.boxes.numpy() for each in proposals]
        if not pictures:
            return []
        if self.about["with_preprocessing"] and len({picture.shape for picture in pictures}) > 1:
            answers = []
            for i, picture in enumerate(pictures):
                answers += self([picture], None if proposals is None else proposals[i : i + 1])
            return answers
        found = detect(self.about, self.run, list(pictures), regions)
        return [self._detections(picture, *of_picture) for picture, of_picture in zip(pictures, found, strict=True)]

    def _detections(self, picture: Array, boxes: Array, scores: Array, labels: Array) -> Detections:
        within = clip(torch.from_numpy(boxes), (picture.shape[0], picture.shape[1]))
        return Detections(
            within, torch.from_numpy(scores), torch.from_numpy(labels), self.class_names, self.category_ids
        )


def check_runtime(suffix: str) -> None:
    """Raise ImportError unless what runs files with that ending is installed."""
    if not find_spec(RUNTIMES[suffix]):
        raise ImportError(f"{suffix} files need {RUNTIMES[suffix]}: pip install rcnnkit[export]")
