"""Frames of videos and cameras, and MP4 files of frames, by OpenCV."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from rcnnkit.files import check_regular, whole
from rcnnkit.structures import Array
from rcnnkit.text import count

# FFmpeg reads it once, when OpenCV begins to use it. It would print lines for each damaged block.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# Without .ts, which is more often a program in TypeScript.
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".webm", ".wmv"}
)
USUAL_RATE = 25.0  # frames a second, of what does not say
HIGHEST_RATE = 1000.0  # what says more does not know
MISSING = 0.02  # share of the frames that a header may count too many
CODEC = "mp4v"  # MPEG-4 part 2, which every OpenCV has


@dataclass(frozen=True, slots=True)
class Frame:
    """Which frame of a video or camera a picture is."""

    number: int  # counted from 0
    seconds: float  # since the first one
    rate: float  # frames a second
    count: int  # of the video, as far as it is known; 0: not known
    live: bool  # of a camera, which has no end


class Video:
    """An opened video or camera.

    Args:
        name: for errors.
        source: a file, the number of a camera, or the address of a stream.
        live: it is a camera or a stream.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the camera or stream does not answer.
        ValueError: the file is no video that OpenCV decodes.
    """

    def __init__(self, name: str, source: Path | str | int, live: bool) -> None:
        self.name, self.live = name, live
        if isinstance(source, Path):
            check_regular(source)
            if not source.is_file():
                raise FileNotFoundError(f"{name}: no such video")
        self._capture = _opened(str(source) if isinstance(source, Path) else source)
        if not self._capture.isOpened():
            if not live:
                raise ValueError(f"{name} cannot be opened as a video; copy it again, or convert it to MP4")
            if isinstance(source, int):
                raise OSError(f"{name} cannot be opened; connect the camera, or end the program that uses it")
            raise OSError(f"{name} cannot be opened; check the address, and that the camera is reached from here")
        rate, frames = (self._capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = float(rate) if 0 < rate <= HIGHEST_RATE else USUAL_RATE
        self.count = int(frames) if 0 < frames < math.inf else 0

    def frames(self, most: int | None = None) -> Iterator[tuple[Frame, Array]]:
        """Each frame and its pixels, (H, W, 3) uint8 RGB.

        Args:
            most: how many at most.

        Raises:
            OSError: the camera stopped.
            ValueError: frames are missing or damaged; those that could be read have been given.
        """
        total = self.count if most is None else min(most, self.count or most)
        began, number = 0.0, 0
        while most is None or number < most:
            good, pixels = self._capture.read()
            if not good:
                break
            began = began or time.monotonic()
            seconds = time.monotonic() - began if self.live else number / self.rate
            yield Frame(number, seconds, self.rate, total, self.live), cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            number += 1
        if self.count and total - number > max(1, MISSING * self.count):
            raise ValueError(
                f"{self.name}: only {number:,} of its {count(self.count, 'frame')} could be read; copy it again."
                " What was found in these is kept"
            )
        if not number:
            raise ValueError(f"{self.name} has no frame that can be read; copy it again, or convert it to MP4")
        if self.live and not self.count and number != most:
            raise OSError(f"{self.name} stopped after {count(number, 'frame')}; what was found in these is kept")

    def close(self) -> None:
        self._capture.release()


class VideoFile:
    """A new MP4 file that frames are added to; it is there when it is closed.

    Args:
        path: ends with .mp4.
        rate: frames a second.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._stack = ExitStack()
        self._half = self._stack.enter_context(whole(path))
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def add(self, pixels: Array, frame: Frame) -> None:
        """One more frame, (H, W, 3) uint8 RGB.

        A camera's frames come as fast as they are searched. Each is repeated, or left out, so that the video runs at
        the speed of the clock.
        """
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            self._writer = self._begun()
        if pixels.shape[1::-1] != self._size:
            pixels = cv2.resize(pixels, self._size)
        frames_due = math.floor(frame.seconds * self.rate) + 1 if frame.live else self._written + 1
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        for _ in range(frames_due - self._written):
            self._writer.write(bgr)
        self._written = max(frames_due, self._written)

    def _begun(self) -> cv2.VideoWriter:
        with _silent():
            writer = cv2.VideoWriter(
                str(self._half), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), self.rate, self._size
            )
        if not writer.isOpened():
            with self._stack:
                raise OSError("OpenCV has no encoder for {} × {} pixels".format(*self._size))
        return writer

    def close(self) -> None:
        """Raises OSError where the file is not complete, as on a full disk."""
        with self._stack:
            if self._writer is not None:
                self._writer.release()
                written = _opened(str(self._half))
                if int(written.get(cv2.CAP_PROP_FRAME_COUNT)) != self._written:  # OpenCV reports no error itself
                    raise OSError("the file is not complete; is the disk full?")


def _opened(source: str | int) -> cv2.VideoCapture:
    with _silent():
        return cv2.VideoCapture(source)


@contextmanager
def _silent() -> Iterator[None]:
    """OpenCV prints nothing of what we report."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
