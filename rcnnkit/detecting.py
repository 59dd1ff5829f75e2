"""What is in picture files: detections, and the pictures with their boxes."""

from __future__ import annotations

import errno
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2

from rcnnkit.boxes import scale
from rcnnkit.data.checks import pictures_in
from rcnnkit.data.image_ids import Ids, ids_of
from rcnnkit.defaults import BATCH
from rcnnkit.detectors.detector import Detector
from rcnnkit.drawing import draw, save_picture
from rcnnkit.files import whole
from rcnnkit.images import Array, read_picture
from rcnnkit.looking import open_file
from rcnnkit.slides import Slide
from rcnnkit.structures import Detections

RESULTS = "detections.json"
# What one picture may raise where the next is well: too little memory is a RuntimeError of torch, too.
FAILURES = (OSError, ValueError, RuntimeError, MemoryError, cv2.error)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next one would fail as well

log = logging.getLogger("rcnnkit")


@dataclass(frozen=True, slots=True, eq=False)
class DetectedFile:
    """What became of one picture."""

    path: Path  # as it was given, or below a folder that was
    detections: Detections | None = None  # on the CPU; None: it could not be read or searched
    drawn: Path | None = None  # the new picture, with boxes
    error: Exception | None = None  # why one of these is missing

    def summary(self, min_score: float) -> str:
        """What was found from this score on, for people: "street.jpg: 2 car, 1 dog"."""
        names = self.detections.above(min_score).names if self.detections is not None else ()
        counts = ", ".join(f"{number} {name}" for name, number in Counter(names).items())
        as_png = f"; drawn in {self.drawn}" if self.drawn and self.drawn.suffix != ".jpg" else ""
        return f"{self.path}: {counts or f'nothing that scores {min_score:g}'}{as_png}"


def detect_files(
    detector: Detector,
    files: Path | str | Iterable[Path | str],
    out: Path | str | None = None,
    *,
    min_score: float | None = None,
    batch: int = BATCH,
    image_ids: Ids | None = None,
    report: Callable[[DetectedFile], object] | None = None,
) -> list[DetectedFile]:
    """Detections in picture files and in folders of them, and their sub-folders.

    A picture that cannot be read, searched or drawn has an `error`, and the others are done.

    Args:
        detector: such as of `rcnnkit.load`.
        files: one or several pictures or folders. Other files in the folders are counted in one line of the log.
        out: a folder for the pictures with boxes, in the same sub-folders, and for detections.json, in COCO's results
            format with each picture's path as its image_id; None writes nothing.
        min_score: boxes are drawn from this score on; by default `detector.min_score`.
        batch: pictures at a time.
        image_ids: file name → what to write as image_id in place of the path, as `read_image_ids` gives it.
        report: is called with each picture when it is done; by default errors are logged.

    Returns:
        Every picture once, in the order of `files`.

    Raises:
        FileExistsError: `out` is a file, or something that would be written is there already.
        FileNotFoundError: a folder has no picture.
        OSError: there is no room left for the results.
        RuntimeError: the detector is in training mode.
        ValueError: `batch` is below 1, or a picture is not among `image_ids`.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}; give 1 or more pictures at a time")
    detector([])  # raises where every picture would
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    out = None if out is None else Path(out)
    pictures = list(dict.fromkeys(pictures_in(paths, out)))
    ids = dict(zip(pictures, map(str, pictures) if image_ids is None else ids_of(pictures, image_ids), strict=True))
    places = {} if out is None else _places(pictures, out, [path for path in paths if path.is_dir()])
    least, report = detector.min_score if min_score is None else min_score, report or _log
    done: list[DetectedFile] = []
    try:
        for picture, array in _search(detector, pictures, batch):
            if out and array is not None and picture.detections is not None:
                place = places[picture.path]
                place.parent.mkdir(parents=True, exist_ok=True)
                done.append(picture)  # also where there is no room for its boxes
                done[-1] = _draw(picture, picture.detections, array, place, least, out)
            else:
                done.append(picture)
            report(done[-1])
    finally:  # also of what a Ctrl-C leaves undone
        searched = [(ids[each.path], each.detections) for each in done if each.detections is not None]
        if out and searched:  # else a corrected call shall find nothing in its way
            results = [entry for image_id, detections in searched for entry in detections.to_coco(image_id)]
            with whole(out / RESULTS) as half:
                half.write_text(json.dumps(results), encoding="utf-8")
    return done


def _log(picture: DetectedFile) -> None:
    if picture.error:
        log.error("%s", picture.error)


def _places(pictures: Sequence[Path], out: Path, folders: Sequence[Path]) -> dict[Path, Path]:
    """Where each picture goes: its own name, in its sub-folder in out/; a second one of a name gets a number.

    Raises:
        FileExistsError: something is there already.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; choose a folder, which pictures go into")
    places: dict[Path, Path] = {}
    used: set[Path] = set()
    for path in pictures:
        place = next((path.relative_to(folder).parent for folder in folders if path.is_relative_to(folder)), Path())
        file, number = out / place / f"{path.stem}.jpg", 1
        while file in used:
            number += 1
            file = out / place / f"{path.stem}-{number}.jpg"
        used.add(file)
        places[path] = file
    for file in (*places.values(), out / RESULTS):
        if file.exists():
            raise FileExistsError(f"{file} is there already; choose another folder, nothing is overwritten")
    return places


def _search(
    detector: Detector, paths: Sequence[Path], batch: int
) -> Iterator[tuple[DetectedFile, Array | Slide | None]]:
    """What is in each picture, and the picture where it could be read."""
    read: Callable[[Path], Array | Slide] = open_file if detector.preprocessing.tile else read_picture
    queue = iter(paths)
    while chunk := list(islice(queue, batch)):
        arrays: dict[Path, Array | Slide] = {}
        errors: dict[Path, Exception] = {}
        for path in chunk:
            try:
                arrays[path] = read(path)
            except FAILURES as error:
                said = isinstance(error, OSError | ValueError)  # by name
                errors[path] = error if said else RuntimeError(f"{path}: {_reason(error)}")
        try:
            answers = dict(zip(arrays, detector(list(arrays.values())), strict=True))
        except FAILURES:
            answers = {}  # one of them may be at fault: each alone
        for path in chunk:
            detections = answers.get(path)
            if path in arrays and detections is None:
                try:
                    detections = detector(arrays[path])
                except FAILURES as error:
                    advice = f"the search failed ({_reason(error)}); a smaller picture takes less memory"
                    errors[path] = RuntimeError(f"{path}: {advice}")
            on_cpu = None if detections is None else detections.to("cpu")
            yield DetectedFile(path, on_cpu, error=errors.get(path)), arrays.get(path)


def _draw(
    picture: DetectedFile, detections: Detections, array: Array | Slide, place: Path, least: float, out: Path
) -> DetectedFile:
    try:
        if isinstance(array, Slide):
            with array as slide:
                array = slide.overview(slide.shown_size)
            boxes = scale(detections.boxes, slide.size, slide.shown_size)
            detections = replace(detections, boxes=boxes)
        return replace(picture, drawn=save_picture(draw(array, detections, min_score=least), place))
    except FAILURES as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        failure = f"the picture with its boxes cannot be written ({_reason(error)}); what was found is in"
        return replace(picture, error=RuntimeError(f"{picture.path}: {failure} {out / RESULTS}"))


def _reason(error: BaseException) -> str:
    return "out of memory" if isinstance(error, MemoryError) else (str(error) or type(error).__name__).splitlines()[0]
