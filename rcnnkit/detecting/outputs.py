"""What becomes of detections: where each kind of file goes, and one pass that writes them all."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rcnnkit.data.image_ids import Ids, ids_of
from rcnnkit.detecting.drawn import Crops, Drawings
from rcnnkit.detecting.results import SUFFIXES, Results, format_of, results_in
from rcnnkit.detecting.search import DetectedPicture
from rcnnkit.detecting.sources import Source
from rcnnkit.detectors.detector import Detector
from rcnnkit.files import check_new

RESULTS = "detections"  # in the folder for pictures, if no other place is named


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is written, and where."""

    out: Path | None = None  # a folder for pictures and videos with boxes
    results: Path | None = None  # a file, or for "yolo" and "voc" a folder, for detections; by default in `out`
    format: str | None = None  # "coco", "csv", "parquet", "yolo" or "voc"; by default by the ending of `results`
    crops: Path | None = None  # a new folder for a picture of each object
    min_score: float | None = None  # of what is drawn, cut out, or in a data set; by default the detector's
    image_ids: Ids | None = None  # file name → what is written in place of the path

    @property
    def results_file(self) -> Path | None:
        """Where detections go. Raises ValueError as `rcnnkit.detecting.results.format_of`."""
        if self.results is None and self.out is not None:
            return self.out / f"{RESULTS}{SUFFIXES[format_of(None, self.format)]}"
        return self.results


class Writer:
    """Writes what `outputs` asks for.

    Raises:
        FileExistsError: something is in the way.
        ValueError: a format that there is not, or that cannot hold the classes or the ids.
    """

    def __init__(self, outputs: Outputs, detector: Detector) -> None:
        self.outputs = outputs
        self.least = detector.min_score if outputs.min_score is None else outputs.min_score
        self.results: Results | None = None
        self.crops = Crops(outputs.crops, detector, self.least) if outputs.crops else None
        self.drawings = Drawings(outputs.out, self.least) if outputs.out else None
        if file := outputs.results_file:
            format = format_of(outputs.results, outputs.format)
            if outputs.image_ids is not None and not SUFFIXES[format]:
                raise ValueError(f"{format} has no place for the ids of pictures; leave them out, or write coco or csv")
            if outputs.results and SUFFIXES[format]:
                check_new(file)
            self.results = results_in(file, format, detector, self.least)
        elif outputs.format is not None:
            raise ValueError(f"the format {outputs.format} is of results, and none are written; name a file for them")

    def check(self, sources: Sequence[Source]) -> None:
        """Raise FileExistsError where something is in the way of their drawings, ValueError where ids are missing."""
        if self.drawings:
            for source in sources:
                self.drawings.check(source)
        self._keys(sources)

    def _keys(self, sources: Sequence[Source]) -> list[int | str]:
        names = [source.name for source in sources]
        if self.outputs.image_ids is None:
            return list(names)
        for source in sources:
            if source.read is None:
                raise ValueError(f"{source.name} is a video, whose frames have no ids; search it without ids")
        return ids_of([Path(name) for name in names], self.outputs.image_ids)

    def written(self, pictures: Iterable[DetectedPicture]) -> Generator[DetectedPicture]:
        """Each picture when it is done. When this ends, in whichever way, all that was found is written.

        Raises:
            OSError: there is no room left.
        """
        with ExitStack() as stack:
            for part in (self.results, self.drawings):
                if part is not None:
                    stack.callback(part.close)
            for picture in pictures:
                if self.results and picture.detections is not None:
                    self.results.add(self._keys([picture.source])[0], picture)
                if self.crops:
                    picture = self.crops.add(picture)
                if self.drawings:
                    picture = self._drawn(self.drawings, picture)
                yield picture

    def _drawn(self, drawings: Drawings, picture: DetectedPicture) -> DetectedPicture:
        result = drawings.add(picture)
        if result.error is picture.error or self.results is None:
            return result
        return replace(result, error=RuntimeError(f"{result.error}; what was found is in {self.results.path}"))
