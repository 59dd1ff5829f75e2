"""Detecting in many pictures at once: everything is written, and all detections are returned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

from rcnnkit.data.image_ids import Ids
from rcnnkit.defaults import BATCH
from rcnnkit.detecting.outputs import Outputs, Writer
from rcnnkit.detecting.search import DetectedPicture, as_needed, check_search, search
from rcnnkit.detecting.sources import Files
from rcnnkit.detectors.detector import Detector

log = logging.getLogger("rcnnkit")


def detect_files(
    detector: Detector,
    files: Files,
    out: Path | str | None = None,
    *,
    results: Path | str | None = None,
    format: str | None = None,
    crops: Path | str | None = None,
    min_score: float | None = None,
    batch: int = BATCH,
    frames: int | None = None,
    image_ids: Ids | None = None,
    report: Callable[[DetectedPicture], object] | None = None,
) -> list[DetectedPicture]:
    """Detections in pictures, folders, videos and more, which are also written.

    A picture that cannot be read, searched or drawn has an `error`, and the others are done.

    Args:
        detector, files, batch, frames: as of `detect_each`.
        out: a folder for the pictures and videos with boxes, in the same sub-folders, and for detections.json; None
            writes neither.
        results: a file for all detections in place of detections.json: .json (COCO's results format, with the name of
            each picture as its image_id), .csv or .parquet.
        format: "coco", "csv" or "parquet"; or "yolo" or "voc" for a data set in the folder `results`, of the pictures
            and of what scores `min_score`. By default the ending of `results` says it.
        crops: a new folder for a picture of each object, in a folder of its class.
        min_score: what is drawn, cut out, or put into a data set has this score; by default `detector.min_score`.
        image_ids: file name → what to write as image_id in place of the path, as `read_image_ids` gives it.
        report: is called with each picture when it is done; by default errors are logged.

    Returns:
        Every picture and frame once, in the order of `files`, without its pixels.

    Raises:
        FileExistsError: `out` is a file, or something that would be written is there already.
        OSError: there is no room left for the results.
        ValueError: a picture is not among `image_ids`, or `format` is wrong, or cannot hold the classes.
        And as `detect_each`.
    """
    folder, file, objects = (None if path is None else Path(path) for path in (out, results, crops))
    outputs = Outputs(folder, file, format, objects, min_score, image_ids)
    writer = Writer(outputs, detector)
    report = report or _log
    pictures = []
    for picture in detect_and_write(detector, files, writer, batch, frames):
        # Neither pixels nor what they are read from, which may be an array: all of them would stay in memory.
        pictures.append(replace(picture, picture=None, source=replace(picture.source, read=None, open=None)))
        report(pictures[-1])
    return pictures


def detect_and_write(
    detector: Detector, files: Files, writer: Writer, batch: int, frames: int | None
) -> Generator[DetectedPicture]:
    """`detect_each`, whose pictures `writer` writes meanwhile. Raises as it and `Writer.check`, before it begins."""
    check_search(detector, batch, frames)
    sources = as_needed(files, writer.outputs.out)
    if isinstance(sources, list):
        writer.check(sources)
    return writer.written(search(detector, sources, batch, frames))


def _log(picture: DetectedPicture) -> None:
    if picture.error:
        log.error("%s", picture.error)
