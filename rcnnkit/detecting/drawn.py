"""Pictures and videos with boxes, and pictures of single objects, in folders like those that they come from."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from rcnnkit.boxes import scale
from rcnnkit.data.class_folders import check_folder_names, cut
from rcnnkit.detecting.search import FAILURES, DetectedPicture, objects_from, reason_of
from rcnnkit.detecting.sources import Source
from rcnnkit.detecting.videos import Frame, VideoFile
from rcnnkit.detectors.detector import Detector
from rcnnkit.drawing import draw, save_picture
from rcnnkit.files import check_free
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, Detections

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next one would fail as well


class Drawings:
    """Pictures and videos with boxes.

    Args:
        out: the folder that they go into.
        least: the least score that is drawn.

    Raises:
        FileExistsError: `out` is a file.
    """

    def __init__(self, out: Path, least: float) -> None:
        if out.exists() and not out.is_dir():
            raise FileExistsError(f"{out} is a file; choose a folder, which pictures go into")
        self.out, self._least = out, least
        self._video: VideoFile | None = None
        self._source: Source | None = None  # of the video, also where it cannot be written

    def check(self, source: Source) -> Path:
        """Where its picture or video will be. Raises FileExistsError: something is there already."""
        file = self.out / f"{source.place}{'.mp4' if source.read is None else '.jpg'}"
        if file.exists():
            raise FileExistsError(f"{file} is there already; choose another folder, nothing is overwritten")
        return file

    def add(self, picture: DetectedPicture) -> DetectedPicture:
        """The same, and where it is drawn or why it is not.

        Raises:
            OSError: there is no room left.
        """
        if picture.source is not self._source:
            self.close()
        if picture.picture is None or (picture.source is self._source and not self._video):
            return picture
        try:
            if picture.frame is not None and not isinstance(picture.picture, Slide):
                return replace(picture, drawn=self._filmed(picture.picture, picture, picture.frame))
            if picture.detections is None:
                return picture
            file = self.check(picture.source)
            file.parent.mkdir(parents=True, exist_ok=True)
            drawing = draw(*_shown(picture.picture, picture.detections), min_score=self._least)
            return replace(picture, drawn=save_picture(drawing, file))
        except FAILURES as error:
            if getattr(error, "errno", None) in NO_ROOM:
                raise
            thing = "picture" if picture.frame is None else "video"
            failure = f"the {thing} with its boxes cannot be written ({reason_of(error)})"
            return replace(picture, error=RuntimeError(f"{picture.source.name}: {failure}"))

    def _filmed(self, pixels: Array, picture: DetectedPicture, frame: Frame) -> Path:
        """The video that the frame is in; without boxes where its search failed, as the others keep their times."""
        if self._video is None:
            self._source, file = picture.source, self.check(picture.source)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._video = VideoFile(file, frame.rate)
        try:
            if picture.detections is not None:
                pixels = np.asarray(draw(pixels, picture.detections, min_score=self._least))
            self._video.add(pixels, frame)
        except BaseException:
            video, self._video = self._video, None  # the rest is left out
            video.close()
            raise
        return self._video.path

    def close(self) -> None:
        """The video that is written is there then. Raises OSError where it is not complete."""
        video, self._video, self._source = self._video, None, None
        if video is not None:
            video.close()


def _shown(picture: Array | Slide, detections: Detections) -> tuple[Array, Detections]:
    """A picture with its detections as people are shown it: a slide is shrunk."""
    if not isinstance(picture, Slide):
        return picture, detections
    with picture as slide:
        overview = slide.overview(slide.shown_size)
    return overview, replace(detections, boxes=scale(detections.boxes, slide.size, slide.shown_size))


class Crops:
    """A picture of each object, in a folder of its class.

    Args:
        folder: a new one.
        least: the least score of objects that are cut out.

    Raises:
        FileExistsError: `folder` is not empty.
        ValueError: the name of a class cannot be that of a folder.
    """

    def __init__(self, folder: Path, detector: Detector, least: float) -> None:
        check_free(folder)
        try:
            check_folder_names(detector.class_names)
        except ValueError as error:
            fault, _, _ = str(error).partition("; ")
            raise ValueError(f"{fault}; leave the pictures of objects out") from None
        self.folder, self._least = folder, least
        self.written: Counter[str] = Counter()  # by classes

    def add(self, picture: DetectedPicture) -> DetectedPicture:
        """The same, and why objects of it could not be written. Raises OSError: there is no room left."""
        if picture.picture is None or picture.detections is None:
            return picture
        try:
            for number, (name, _, box) in enumerate(objects_from(picture.detections, self._least)):
                file = self.folder / name / f"{picture.place}_{number}.png"
                while file.exists():  # of a picture that is called like a frame
                    file = file.with_stem(f"{file.stem}-2")
                file.parent.mkdir(parents=True, exist_ok=True)
                cut(picture.picture, box, context=0.0).save(file)
                self.written[name] += 1
        except FAILURES as error:
            if getattr(error, "errno", None) in NO_ROOM:
                raise
            failure = f"its objects cannot be written ({reason_of(error)})"
            return replace(picture, error=RuntimeError(f"{picture.name}: {failure}"))
        return picture
