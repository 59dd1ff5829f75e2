"""A detector of bright squares, which is never wrong, and pictures and videos of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from rcnnkit.detectors.detector import Detector
from rcnnkit.images import Preprocessing
from rcnnkit.structures import Detections, ImageBatch

NAMES, IDS = ("red", "green"), (7, 4)  # the first two channels
SIDE = 12  # pixels of a square
Square = tuple[int, int, int]  # its label, and x and y of its corner


class Squares(Detector):
    """Finds them by their pixels. Their scores fall from 1, and the last of several has the least."""

    def __init__(self, least: float = 0.25) -> None:
        super().__init__()
        self.least = least
        self.preprocessing = Preprocessing(short_side=32, long_side=64)
        self.class_names, self.category_ids = NAMES, IDS
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches_seen: list[int] = []
        self.eval()

    def detect(self, images: ImageBatch) -> list[Detections]:
        self.batches_seen.append(len(images))
        return [self._found(picture) for picture in images.pictures]

    def _found(self, picture: np.ndarray) -> Detections:
        boxes, labels = [], []
        for label in (0, 1):
            bright = np.ascontiguousarray(picture[:, :, label] > 128).astype(np.uint8)
            for x, y, width, height, area in cv2.connectedComponentsWithStats(bright)[2][1:]:
                if area >= SIDE:
                    boxes.append([x, y, x + width, y + height])
                    labels.append(label)
        scores = torch.linspace(1, self.least, len(boxes)) if len(boxes) > 1 else torch.ones(len(boxes))
        found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return Detections(found, scores, torch.tensor(labels, dtype=torch.int64), NAMES, IDS)


def painted(*squares: Square, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A dark picture (height, width) with squares."""
    picture = np.full((*size, 3), 20, np.uint8)
    for label, x, y in squares:
        picture[y : y + SIDE, x : x + SIDE, label] = 240
    return picture


def film(path: Path, pictures: Iterable[np.ndarray], rate: float = 10.0) -> Path:
    """A video of pictures of one size; its frames are not exactly these."""
    pictures = list(pictures)
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, pictures[0].shape[1::-1])
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def moving(number: int) -> list[np.ndarray]:
    """Frames in which a red square goes right and a green one goes left, past each other."""
    return [painted((0, 2 + 3 * i, 4), (1, 50 - 3 * i, 30)) for i in range(number)]


def frames_of(path: Path) -> Sequence[np.ndarray]:
    """What OpenCV reads of a video, RGB."""
    capture = cv2.VideoCapture(str(path))
    found: list[np.ndarray] = []
    while True:
        good, picture = capture.read()
        if not good:
            return found
        found.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def rate_of(path: Path) -> float:
    return float(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS))
