"""Detections in files: COCO's results, CSV and Parquet with all of them; YOLO's and VOC's data sets with the best."""

from __future__ import annotations

import csv
import json
import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

from PIL import Image

from rcnnkit.data.convert import convert
from rcnnkit.data.flat import GrowingRecords
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc_writing import check_xml_names
from rcnnkit.detecting.search import DetectedPicture, objects_from
from rcnnkit.detectors.detector import Detector
from rcnnkit.files import check_free, whole
from rcnnkit.looking import size_of
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, Targets

SUFFIXES = {"coco": ".json", "csv": ".csv", "parquet": ".parquet", "yolo": "", "voc": ""}  # "": a folder
COLUMNS = ("image", "x1", "y1", "x2", "y2", "class", "score", "frame")  # as `rcnnkit.data.tables` reads them
ROWS = 50_000  # of a table in Parquet that are kept until they are written
SPLIT = "train"  # of a data set

log = logging.getLogger("rcnnkit")


class Results(Protocol):
    """Takes what was found, picture after picture."""

    path: Path  # what is there in the end, unless no picture could be searched
    written: int  # detections

    def add(self, key: int | str, picture: DetectedPicture) -> None:
        """`picture` has detections and pixels; `key` is the id of its picture or video."""

    def close(self) -> None:
        """Raises OSError where it cannot be written."""


def format_of(path: Path | None, format: str | None) -> str:
    """The name of a format, by what was asked for or by the ending of the file.

    Raises:
        ValueError: there is no such format, or the ending is that of another one.
    """
    if format is not None and format not in SUFFIXES:
        raise ValueError(f"the format {format!r} is not one of {', '.join(SUFFIXES)}")
    if path is None:
        return format or "coco"
    by_ending = next((name for name, suffix in SUFFIXES.items() if suffix and suffix == path.suffix.lower()), None)
    if format is None and by_ending is None:
        endings = ", ".join(filter(None, SUFFIXES.values()))
        raise ValueError(f"{path} ends with none of {endings}; or name the format of a folder, yolo or voc")
    if format is not None and SUFFIXES[format] and by_ending != format:
        raise ValueError(f"{path} must end with {SUFFIXES[format]}, as {format} has it")
    if format is not None and not SUFFIXES[format] and by_ending is not None:
        raise ValueError(f"{path} ends like a file of {by_ending}, and {format} is a folder; choose another name")
    return format or by_ending or "coco"


def results_in(path: Path, format: str, detector: Detector, least: float) -> Results:
    """What writes results in a format of `SUFFIXES`. Folders on the way are made.

    Raises:
        FileExistsError: something is there already.
        ValueError: the format cannot hold the classes, or a library is missing.
    """
    if format in ("yolo", "voc"):
        check_free(path)
        if format == "voc":
            check_xml_names(detector.class_names)
        return _Folder(path, format, detector, least)
    if path.exists():
        raise FileExistsError(f"{path} is there already; choose another folder or file, nothing is overwritten")
    return {"coco": _Coco, "csv": _Csv, "parquet": _Parquet}[format](path)


class _File:
    """A file that grows beside its place, and takes it in the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, 0
        self._stack = ExitStack()
        self._file: Any = None

    def add(self, key: int | str, picture: DetectedPicture) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                self._file = self._begin(stack.enter_context(whole(self.path)))
                self._stack = stack.pop_all()
        assert picture.detections is not None
        self._write(key, picture)
        self.written += len(picture.detections)

    def close(self) -> None:
        with self._stack:  # which puts the file into its place, unless this fails
            if self._file is not None:
                self._end()
                self._file.close()

    def _begin(self, half: Path) -> Any:
        raise NotImplementedError

    def _write(self, key: int | str, picture: DetectedPicture) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        pass


class _Coco(_File):
    """COCO's results: a list of detections, each with the id of its picture."""

    def _begin(self, half: Path) -> IO[str]:
        file = half.open("w", encoding="utf-8")
        file.write("[")
        return file

    def _write(self, key: int | str, picture: DetectedPicture) -> None:
        assert picture.detections is not None
        image_id = key if picture.frame is None else f"{key}#{picture.frame.number}"
        for number, entry in enumerate(picture.detections.to_coco(image_id), self.written):
            self._file.write((", " if number else "") + json.dumps(entry))

    def _end(self) -> None:
        self._file.write("]")


class _Csv(_File):
    """A row for each detection; boxes with three decimals."""

    def _begin(self, half: Path) -> IO[str]:
        # Names of files may be any bytes, of which pandas takes UTF-8 alone.
        file = half.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        return file

    def _write(self, key: int | str, picture: DetectedPicture) -> None:
        rows = [
            (image, *(f"{side:.3f}" for side in sides), name, f"{score:.6f}", frame)
            for image, *sides, name, score, frame in _rows(key, picture)
        ]
        csv.writer(self._file, lineterminator="\n").writerows(rows)


class _Parquet(_File):
    """The columns of the CSV, in float32; `frame` is null for pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow.parquet
        except ImportError:
            raise ValueError(
                f"{path}: Parquet files are written with pyarrow; pip install 'rcnnkit[parquet]'"
            ) from None
        kinds = (pyarrow.string(), *[pyarrow.float32()] * 4, pyarrow.string(), pyarrow.float32(), pyarrow.int64())
        self._library, self._schema = pyarrow, pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
        self._kept: list[tuple[Any, ...]] = []

    def _begin(self, half: Path) -> Any:
        return self._library.parquet.ParquetWriter(half, self._schema)

    def _write(self, key: int | str, picture: DetectedPicture) -> None:
        for image, *others in _rows(key, picture):
            self._kept.append((str(image).encode(errors="backslashreplace").decode(), *others))
        if len(self._kept) >= ROWS:
            self._end()

    def _end(self) -> None:
        columns = list(zip(*self._kept, strict=True)) or [()] * len(COLUMNS)
        self._kept = []
        arrays = [self._library.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        self._file.write_table(self._library.Table.from_arrays(arrays, schema=self._schema))


def _rows(key: int | str, picture: DetectedPicture) -> list[tuple[Any, ...]]:
    """Of a table with `COLUMNS`."""
    assert picture.detections is not None
    frame = None if picture.frame is None else picture.frame.number
    return [(key, *box, name, score, frame) for name, score, box in picture.detections]


class _Folder:
    """A data set of all pictures and of the detections from the least score on, since it has no place for scores."""

    def __init__(self, path: Path, format: str, detector: Detector, least: float) -> None:
        self.path, self.written = path, 0
        self._format, self._detector, self._least = format, detector, least
        self._records = GrowingRecords()
        self._stack = ExitStack()
        self._own: Path | None = None  # for pictures that are in no file

    def add(self, key: int | str, picture: DetectedPicture) -> None:
        assert picture.detections is not None
        assert picture.picture is not None
        objects = objects_from(picture.detections, self._least)
        targets = Targets(objects.boxes, objects.labels)
        self._records.append(
            Record(str(picture.place), self._picture(picture, picture.picture), size_of(picture.picture), targets)
        )
        self.written += len(objects)

    def _picture(self, picture: DetectedPicture, pixels: Array | Slide) -> Path:
        """The file of a picture; a new one, where it is in an archive, in a video, on the web or in memory."""
        file = picture.source.file
        if file is not None and file.is_file():
            return file
        if self._own is None:
            beside = self.path.absolute().parent
            beside.mkdir(parents=True, exist_ok=True)
            self._own = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=".half-", dir=beside)))
        # In a folder of its own: a picture may be called like a frame of a video.
        file = (
            self._own / str(len(self._records)) / f"{picture.place.name}{'.png' if picture.frame is None else '.jpg'}"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        assert not isinstance(pixels, Slide)  # which is in a file
        Image.fromarray(pixels).save(file, quality=95)
        return file

    def close(self) -> None:
        with self._stack:
            if len(self._records):
                names, ids = self._detector.class_names, self._detector.category_ids
                data = Dataset(self.path.name, self._records.all(), names, ids)
                for note in convert({SPLIT: data}, self._format, self.path).notes:
                    log.info("%s: %s", self.path, note)
