"""The loop over batches: what is in each picture, frame after frame, with one batch in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2

from rcnnkit.defaults import BATCH
from rcnnkit.detecting.sources import Files, Source, sources_of
from rcnnkit.detecting.videos import Frame
from rcnnkit.detectors.detector import Detector
from rcnnkit.looking import open_file
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, Detections

# What one picture may raise where the next is well: too little memory is a RuntimeError of torch, too.
FAILURES = (OSError, ValueError, RuntimeError, MemoryError, cv2.error)


@dataclass(frozen=True, slots=True, eq=False)
class DetectedPicture:
    """What became of one picture, or of one frame of a video or camera."""

    source: Source
    frame: Frame | None = None  # None: it is a picture, or a video that could not be read to its end
    picture: Array | Slide | None = field(default=None, repr=False)  # (H, W, 3) uint8 RGB, where it is kept
    detections: Detections | None = None  # on the CPU; None: it could not be read or searched
    drawn: Path | None = None  # the new picture with boxes, or the new video that the frame is in
    error: Exception | None = None  # why one of these is missing

    @property
    def name(self) -> str:
        """As it was given, or below a folder that was: "mon/street.jpg"; of a frame with its number: "clip.mp4#12"."""
        return self.source.name if self.frame is None else f"{self.source.name}#{self.frame.number}"

    @property
    def place(self) -> Path:
        """Of what is written about it, below a folder and without an ending."""
        place = self.source.place
        return place if self.frame is None else place.with_name(f"{place.name}-{self.frame.number:06}")

    def summary(self, min_score: float) -> str:
        """What was found from this score on, for people: "street.jpg: 2 car, 1 dog"."""
        names = self.detections.above(min_score).names if self.detections is not None else ()
        as_png = f"; drawn in {self.drawn}" if self.drawn and self.drawn.suffix != ".jpg" else ""
        return f"{self.name}: {counted(Counter(names)) or f'nothing that scores {min_score:g}'}{as_png}"


def counted(names: Counter[str]) -> str:
    """ "2 car, 1 dog"."""
    return ", ".join(f"{number} {name}" for name, number in names.items())


def detect_each(
    detector: Detector, files: Files, *, batch: int = BATCH, frames: int | None = None
) -> Iterator[DetectedPicture]:
    """What is in each picture, one after another. Memory is needed for one batch, however many pictures there are.

    A picture that cannot be read or searched has an `error`, and the others are done. So has a video that breaks off,
    after its frames.

    Args:
        detector: such as of `rcnnkit.load`.
        files: one or several of these, or an iterator of them, which is read as far as it is needed:

            - a picture of any kind that the detector takes, or (name, picture);
            - a folder, whose pictures and videos are taken, also those in sub-folders;
            - a glob, such as "in/**/*.png";
            - a video, of which each frame is a picture;
            - a URL of http or https, of a picture or a video;
            - "camera:0", or a URL of rtsp or rtmp. A camera has no end; give `frames`, or leave the loop.
        batch: pictures at a time.
        frames: of each video and camera, at most; None: all.

    Returns:
        An iterator of each picture with its pixels, as `picture`, in the order of `files`. A file comes once.

    Raises:
        FileNotFoundError: a folder has no picture, or a glob matches none.
        RuntimeError: the detector is in training mode.
        TypeError, ValueError: something of `files` is none of these, or `batch` or `frames` is below 1.
    """
    check_search(detector, batch, frames)
    return search(detector, as_needed(files), batch, frames)


def as_needed(files: Files, out: Path | None = None) -> Iterable[Source]:
    """The sources at once, so that what is wrong is found first; of an iterator, when they are needed."""
    sources = sources_of(files, out)
    return list(sources) if isinstance(files, str | Path | list | tuple) else sources


def check_search(detector: Detector, batch: int, frames: int | None) -> None:
    """Raise as `detect_each` of its arguments, and of whatever would fail with every picture."""
    if batch < 1:
        raise ValueError(f"batch = {batch}; give 1 or more pictures at a time")
    if frames is not None and frames < 1:
        raise ValueError(f"frames = {frames}; give 1 or more, or leave it out to take all")
    detector([])


def search(detector: Detector, sources: Iterable[Source], batch: int, frames: int | None) -> Iterator[DetectedPicture]:
    """`detect_each`, of sources."""
    for some in _batches(_pictures(sources, frames, detector.preprocessing.tile > 0), batch):
        yield from _searched(detector, some)


def _batches(pictures: Iterator[DetectedPicture], size: int) -> Iterator[list[DetectedPicture]]:
    batch: list[DetectedPicture] = []
    try:
        for picture in pictures:
            batch.append(picture)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch  # what was read before
        raise
    if batch:
        yield batch


def _pictures(sources: Iterable[Source], frames: int | None, in_tiles: bool) -> Iterator[DetectedPicture]:
    """Each picture and frame with its pixels, or why it has none; in tiles a slide is not read before they are."""
    for source in sources:
        try:
            if source.read is not None:
                picture = open_file(source.file) if in_tiles and source.file else source.read()
                yield DetectedPicture(source, picture=picture)
            elif source.open is not None:
                with source.open() as video:
                    for frame, pixels in video.frames(frames):
                        yield DetectedPicture(source, frame, pixels)
        except (*FAILURES, TypeError) as error:
            yield DetectedPicture(source, error=_named(source.name, error))


def _named(name: str, error: Exception) -> Exception:
    """The error, which says what it is about."""
    is_expected = isinstance(error, OSError | ValueError | TypeError)
    if is_expected and (name in str(error) or (isinstance(error, OSError) and error.filename)):
        return error
    return (ValueError if is_expected else RuntimeError)(f"{name}: {reason_of(error)}")


def _searched(detector: Detector, batch: Sequence[DetectedPicture]) -> Iterator[DetectedPicture]:
    readable = [picture for picture in batch if picture.picture is not None]
    try:
        answers = detector([picture.picture for picture in readable if picture.picture is not None])
        answered = dict(zip(map(id, readable), answers, strict=True))
    except FAILURES:
        answered = {}  # one of them may be at fault: each alone
    for picture in batch:
        if picture.picture is None:
            yield picture
            continue
        try:
            detections = answered[id(picture)] if answered else detector(picture.picture)
            yield replace(picture, detections=detections.to("cpu"))
        except FAILURES as error:
            advice = f"the search failed ({reason_of(error)}); a smaller picture takes less memory"
            yield replace(picture, error=RuntimeError(f"{picture.name}: {advice}"))


def objects_from(detections: Detections, least: float) -> Detections:
    """Those from a score on whose boxes have an area."""
    kept = detections.above(least)
    return kept[(kept.boxes[:, 2:] > kept.boxes[:, :2]).all(dim=1)]


def reason_of(error: BaseException) -> str:
    """In one line."""
    return "out of memory" if isinstance(error, MemoryError) else (str(error) or type(error).__name__).splitlines()[0]
