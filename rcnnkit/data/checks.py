"""What both readers check: boxes and pictures. Everything wrong is collected, to be reported at once."""

from __future__ import annotations

import io
import logging
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import chain
from pathlib import Path

import numpy as np

from rcnnkit.archives import Stamp, read_file, stamp_of
from rcnnkit.data.cache import FROM, SeenPictures
from rcnnkit.data.records import Problem, few
from rcnnkit.decoding import (
    PICTURE_SUFFIXES,
    TooManyPixels,
    differs,
    ends_well,
    jpeg_damage,
    max_pixels,
    open_picture,
    plain_jpeg_size,
    sizes,
)
from rcnnkit.files import check_regular
from rcnnkit.ops import check_jpeg
from rcnnkit.processes import map_ahead
from rcnnkit.slides import SUFFIXES, open_slide
from rcnnkit.structures import Size
from rcnnkit.text import count

log = logging.getLogger("rcnnkit")
ROUNDING = 1.0  # pixels outside the picture that a tool's rounding explains; more is a mistake
READERS = 8  # threads: opening many small files waits for the disk more than for the processor
PART = 512  # pictures that a process looks at in one go …
SLICE = 16  # … and a thread of it
REMEMBERED = 20_000  # pictures that were looked at, between two entries in the cache

MOSTLY = 0.5  # share of a box's area that lies in its picture where the box only needs its edges cut
ALIKE = 0.02  # relative difference of two pictures' shapes, of which one may be a resized copy of the other

Box = tuple[float, float, float, float]
_fixing: ContextVar[bool] = ContextVar("fixing", default=False)


@contextmanager
def fixing() -> Iterator[None]:
    """Within it, readers correct mistakes that have one clear answer, besides saying that they are there."""
    token = _fixing.set(True)
    try:
        yield
    finally:
        _fixing.reset(token)


class Findings(list[Problem]):
    """The problems met while a data set was read, and how much is left out because of them.

    What is odd but can be learnt from is a warning: it is kept, counted, and shown by its first example.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects = 0  # left out of pictures that are kept
        self.pictures = 0  # left out with all their objects
        self.warnings: dict[str, tuple[int, Problem]] = {}  # what is odd -> how often, and the first
        self.fixing = _fixing.get()
        self.fixed: dict[Problem, str] = {}  # what was corrected, within `fixing`, and what it is now

    def add(self, file: Path, where: str, message: str) -> None:
        self.append(Problem(str(file), where, message))

    def fix(self, file: Path, where: str, message: str, value: str) -> None:
        """Something is wrong, as of `add`, and the data set that is read has it corrected."""
        self.add(file, where, message)
        self.fixed[self[-1]] = value

    def box(self, box: Sequence[float], size: Size, text: str, file: Path, where: str) -> Box:
        """`check_box`; within `fixing`, a bad box is corrected where it is clear how, and its problem is added."""
        try:
            return check_box(box, size, text)
        except ValueError as error:
            fixed = fixed_box(box, size) if self.fixing else None
            if fixed is None:
                raise
            self.fix(file, where, str(error), "x1 {:g}, y1 {:g}, x2 {:g}, y2 {:g}".format(*fixed))
            return fixed

    def size(
        self, wrong: str, annotated_size: Size, shown_size: Size, boxes: Iterable[Box], file: Path, where: str
    ) -> bool:
        """Add what is wrong with a picture's annotated size; True where, within `fixing`, the picture's own counts.

        That is clear where all boxes lie in the picture and it is not a resized copy, whose boxes need resizing too.
        """
        height, width = shown_size
        resized = math.isclose(annotated_size[0] * width, annotated_size[1] * height, rel_tol=ALIKE)
        inside = all(min(x1, y1) >= 0 and x2 <= width and y2 <= height for x1, y1, x2, y2 in boxes)
        if not self.fixing or resized or not inside:
            self.add(file, where, wrong)
            return False
        self.fix(file, where, wrong, f"{width} wide and {height} high")
        return True

    def add_stranger(self, source: Path, name: str, number: int, first: str, class_names: Sequence[str]) -> None:
        """So many objects, of which the `first` is there, have a class that is not one of `class_names`."""
        message = (
            f"{count(number, 'object')} of this class (the first is {first}), which is not one of"
            f" {few(class_names)}; correct the name, or add it to data.class_names in settings"
        )
        self.add(source, f"class {name!r}", message)

    def warn(self, what: str, file: Path, where: str, message: str) -> None:
        number, first = self.warnings.get(what, (0, None))
        self.warnings[what] = number + 1, first or Problem(str(file), where, message)


class Shares:
    """Boxes in shares of the picture's sides, 0 to 1, where pixels belong: one problem each, or one for most of all.

    A box whose numbers are all 1 at most lies within the picture's first pixel, where no object is.
    """

    def __init__(self) -> None:
        self._found: list[tuple[Path, str, str]] = []  # of each: its file, where in it, and the box as it is written
        self.boxes = 0  # good ones, in shares or not

    def take(self, numbers: Sequence[float], size: Size, file: Path, where: str, text: str) -> bool:
        """Whether a good box of a picture of this (height, width) is in shares; it is remembered then."""
        self.boxes += 1
        if max(numbers) > 1 or min(size) == 1:
            return False
        self._found.append((file, where, text))
        return True

    def tell(self, source: Path, findings: Findings) -> bool:
        """Add what was found; True where most boxes are in shares, so that the others are not to be trusted either."""
        fix = "multiply them by the picture's width and height"
        if len(self._found) < 2 or 2 * len(self._found) <= self.boxes:
            for file, where, text in self._found:
                findings.add(file, where, f"{text} is not in pixels: all four numbers lie between 0 and 1; {fix}")
            findings.objects += len(self._found)
            return False
        file, where, text = self._found[0]
        place = where if file == source else f"{file.name}, {where}"
        findings.add(
            source,
            "",
            f"{len(self._found)} of {self.boxes} boxes are not in pixels: all four numbers lie between 0 and 1"
            f" (the first is {place}: {text}); {fix}",
        )
        return True


def check_box(box: Sequence[float], size: Size, text: str) -> Box:
    """`box` rounded to float32 and, where rounding put it up to 1 pixel outside, cut to the picture.

    Args:
        box: x1, y1, x2, y2 in continuous pixels, 0-based.
        size: (height, width) of the picture.
        text: the box as its file has it, for the message.

    Raises:
        ValueError: a number is not finite, the box has no width or height, or it lies more than
            1 pixel outside the picture.
    """
    if not all(math.isfinite(v) for v in box):
        raise ValueError(f"{text} holds a number that is not finite; give four finite numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold lies far outside any picture
        x1, y1, x2, y2 = (float(np.float32(v)) for v in box)
    height, width = size
    if x2 <= x1 or y2 <= y1:
        side = "width" if x2 <= x1 else "height"
        raise ValueError(f"{text} leaves the box no {side}; correct it or delete the object")
    beyond = {"left": -x1, "upper": -y1, "right": x2 - width, "lower": y2 - height}
    edge = max(beyond, key=lambda name: beyond[name])
    if beyond[edge] > ROUNDING:
        raise ValueError(
            f"{text} reaches {beyond[edge]:g} pixels beyond the {edge} edge of the picture,"
            f" which is {width} wide and {height} high; correct the box or the size"
        )
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"{text} lies outside the picture, which is {width} wide and {height} high; correct it or delete the object"
        )
    return x1, y1, x2, y2


def fixed_box(box: Sequence[float], size: Size) -> Box | None:
    """A bad box as it was certainly meant: corners in their order, and cut to the picture where most of it lies there.

    None where that is not clear.
    """
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    height, width = size
    corners = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    area, left = (x2 - x1) * (y2 - y1), max(corners[2] - corners[0], 0) * max(corners[3] - corners[1], 0)
    if not (math.isfinite(area) and left > 0 and left >= MOSTLY * area):
        return None
    return check_box(corners, size, "")


def is_picture(path: Path) -> bool:
    """Whether the file's name ends like a picture's."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def pictures_in(
    files: Iterable[Path], out: Path | None = None, suffixes: Collection[str] = PICTURE_SUFFIXES
) -> list[Path]:
    """The files, and in place of each folder the pictures in it and in its sub-folders, sorted.

    Which are pictures, their names say. What else is there is counted in one line of the log. So are hidden pictures,
    which file managers leave behind. Hidden folders are not looked into, nor is the folder `out`, where results go.
    Links to folders are not followed.

    Args:
        suffixes: how the names of those end that are taken, in small letters. Those besides pictures are videos.

    Raises:
        FileNotFoundError: a folder has no picture.
    """
    pictures: list[Path] = []
    for file in files:
        if not file.is_dir():
            pictures.append(file)
            continue
        inside, left_out = [], Counter[str]()
        for folder, folders, names in os.walk(file):
            left_out["link to a folder"] += sum((Path(folder) / name).is_symlink() for name in folders)
            folders[:] = [name for name in folders if not (name.startswith(".") or _same(Path(folder) / name, out))]
            for path in (Path(folder) / name for name in names):
                is_wanted = path.suffix.lower() in suffixes
                if path.name.startswith("."):
                    left_out["hidden picture"] += is_wanted
                elif is_wanted and path.is_file():
                    inside.append(path)
                else:
                    irregular = " that is not a regular file" * is_wanted
                    left_out[(path.suffix.lower() or "without an ending") + irregular] += 1
        if not inside:
            raise FileNotFoundError(f"{file} holds no pictures ({', '.join(sorted(suffixes))})")
        if total := left_out.total():
            ordered = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
            kinds = few([f"{number} {kind}" for kind, number in ordered if number])
            other_things = count(total, "other thing")
            videos = sum(not is_picture(path) for path in inside)
            taken = count(len(inside) - videos, "picture") + (f" and {count(videos, 'video')}" if videos else "")
            log.warning("%s: %s taken, %s left out: %s", file, taken, other_things, kinds)
        pictures += sorted(inside)
    return pictures


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and folder.samefile(other)


def check_picture(path: Path) -> str | None:
    """What is wrong with a picture file, or None."""
    found = picture_size(path)
    return found if isinstance(found, str) else None


def picture_size(path: Path) -> Size | str:
    """(height, width) of the picture upright, or what is wrong with the file.

    JPEGs are read through, without making pixels of them; others are decoded where their end does not show that they
    are whole. Of a TIFF that is read in parts, its length is compared with what it should hold.
    """
    try:
        check_regular(path)
    except PermissionError:
        return "the picture may not be read (permission denied); change its permissions, or ask its owner to do so"
    except ValueError:
        return "the picture is not a regular file; copy what it gives into one"
    try:
        if path.suffix.lower() in SUFFIXES and (slide := open_slide(path)):
            return slide.size
        data = read_file(path)
        if not len(data):
            return "the picture file is empty (0 bytes); replace it"
        if known := plain_jpeg_size(data):
            size, damage = known, check_jpeg(data)
        else:
            with open_picture(io.BytesIO(data.data)) as picture:
                _, size, _ = sizes(picture)
                damage = jpeg_damage(picture, data)
                if not damage and not ends_well(picture, data):
                    picture.load()  # raises where pixels are missing
    except FileNotFoundError:
        return "there is no such picture"
    except IsADirectoryError:
        return "the picture is a folder; put a picture file in its place"
    except TooManyPixels as error:
        return f"the picture {error}"
    except Exception as error:  # PIL raises many kinds
        damage = _first_line(error)
    return f"the picture cannot be read ({damage}); replace it" if damage else size


def picture_sizes(paths: Iterable[Path | str], trusted: Sequence[Size | None] = ()) -> list[Size | str]:
    """`picture_size` of each path, several at a time. Of many pictures, those found good are remembered.

    Args:
        trusted: of each path the (height, width) that is taken on trust, or None to look at the picture; by default all
            are looked at.
    """
    names = [str(path) for path in paths]
    size_of: dict[str, Size | str] = {
        name: size for name, size in zip(names, trusted, strict=False) if size is not None
    }
    unknown = [name for name in dict.fromkeys(names) if name not in size_of]
    cache = SeenPictures() if len(unknown) >= FROM else None
    if cache is not None:
        size_of |= {name: size for name, size in cache.known(unknown).items() if size[0] * size[1] <= max_pixels()}
        unknown = [name for name in unknown if name not in size_of]
    parts = [unknown[start : start + PART] for start in range(0, len(unknown), PART)]
    several = len(unknown) >= FROM
    looks = map_ahead(_sizes_of, iter(parts), os.cpu_count() or 1, "checks pictures", "set data.check_pictures = false")
    good: list[tuple[str, Stamp, Size]] = []
    try:
        with closing(looks) if several else nullcontext(map(_sizes_of, parts)) as answers:
            for part, looked in zip(parts, answers, strict=True):
                size_of |= {name: size for name, (_, size) in zip(part, looked, strict=True)}
                found = zip(part, looked, strict=True)
                good += [(name, stamp, size) for name, (stamp, size) in found if stamp and not isinstance(size, str)]
                if cache is not None and len(good) >= REMEMBERED:
                    cache.add(good)
                    good = []
    finally:
        if cache is not None and good:
            cache.add(good)
    return [size_of[name] for name in names]


def _sizes_of(paths: Sequence[str]) -> list[tuple[Stamp | None, Size | str]]:
    """The stamp of each picture before it was looked at, and its `picture_size`."""

    def look(start: int) -> list[tuple[Stamp | None, Size | str]]:
        return [(stamp_of(path), picture_size(Path(path))) for path in paths[start : start + SLICE]]

    with ThreadPoolExecutor(READERS) as pool:
        return list(chain.from_iterable(pool.map(look, range(0, len(paths), SLICE))))


def check_size(path: Path, annotated_size: Size, shown_size: Size) -> str | None:
    """What is wrong with the annotated (height, width) of a picture, or None.

    A picture that EXIF turns may be annotated as stored or as shown.
    """
    if annotated_size == shown_size:
        return None
    with open_picture(io.BytesIO(read_file(path).data)) as picture:
        stored, _, _ = sizes(picture)
    return None if annotated_size == stored else differs(path, annotated_size, shown_size)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
