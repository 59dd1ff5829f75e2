"""What both readers check: boxes and pictures. Everything wrong is collected, to be told at once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from rcnnkit.data.records import Problem
from rcnnkit.structures import Size

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
ROUNDING = 1.0  # pixels outside the picture that a tool's rounding explains; more is a mistake
TAIL = 4096  # bytes in which the end marker is looked for: some cameras append a little after it
EXIF_ORIENTATION = 0x0112
READERS = 8  # threads: opening many small files waits for the disk more than for the processor

# What PIL raises on bytes that it cannot read, and on pictures too large to be meant.
BAD_PICTURE = (OSError, ValueError, SyntaxError, EOFError)

Box = tuple[float, float, float, float]


class Findings(list[Problem]):
    """The problems met while a data set was read, and how much is left out because of them."""

    def __init__(self) -> None:
        super().__init__()
        self.objects = 0  # left out of pictures that are kept
        self.pictures = 0  # left out with all their objects

    def add(self, file: Path, where: str, message: str) -> None:
        self.append(Problem(str(file), where, message))


def check_box(box: Sequence[float], size: Size, written: str) -> Box:
    """`box` rounded to float32 and, where rounding put it up to 1 pixel outside, cut to the picture.

    Args:
        box: x1, y1, x2, y2 in continuous pixels, 0-based.
        size: (height, width) of the picture.
        written: the box as its file has it, for the message.

    Raises:
        ValueError: a number is not finite, the box has no width or height, or it lies more than
            1 pixel outside the picture.
    """
    if not all(math.isfinite(v) for v in box):
        raise ValueError(f"{written} holds a number that is not finite; give four finite numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold lies far outside any picture
        x1, y1, x2, y2 = (float(np.float32(v)) for v in box)
    height, width = size
    if x2 <= x1 or y2 <= y1:
        side = "width" if x2 <= x1 else "height"
        raise ValueError(f"{written} leaves the box no {side}; correct it or delete the object")
    beyond = {"left": -x1, "upper": -y1, "right": x2 - width, "lower": y2 - height}
    edge = max(beyond, key=lambda name: beyond[name])
    if beyond[edge] > ROUNDING:
        raise ValueError(
            f"{written} reaches {beyond[edge]:g} pixels beyond the {edge} edge of the picture,"
            f" which is {width} wide and {height} high; correct the box or the size"
        )
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"{written} lies outside the picture, which is {width} wide and {height} high;"
            " correct it or delete the object"
        )
    return x1, y1, x2, y2


def is_picture(path: Path) -> bool:
    """Whether the file's name ends like a picture's."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def pictures_in(files: Iterable[Path]) -> Iterator[Path]:
    """The files, and in place of each folder the pictures in it. Raises FileNotFoundError for one without.

    What begins with a dot is left behind by file managers, and no picture.
    """
    for file in files:
        if file.is_dir():
            found = (path for path in file.iterdir() if is_picture(path) and path.is_file())
            inside = sorted(path for path in found if not path.name.startswith("."))
            if not inside:
                raise FileNotFoundError(f"{file} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
            yield from inside
        else:
            yield file


def check_picture(path: Path) -> str | None:
    """What is wrong with a picture file, or None. Reads its head and its tail; decodes only on suspicion."""
    found = picture_size(path)
    return found if isinstance(found, str) else None


def picture_size(path: Path) -> Size | str:
    """(height, width) as stored in the file, or what is wrong with it."""
    try:
        if path.stat().st_size == 0:
            return "the picture file is empty (0 bytes); replace it"
        with Image.open(path) as picture:
            width, height = picture.size
            if not _ends_well(path, picture.format):
                picture.load()  # raises where pixels are missing
    except FileNotFoundError:
        return "there is no such picture"
    except PermissionError:
        return "the picture may not be read (permission denied); change its permissions, or ask its owner to do so"
    except Image.DecompressionBombError:
        return f"the picture has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into tiles"
    except BAD_PICTURE as error:
        return f"the picture cannot be read ({_first_line(error)}); replace it"
    return height, width


def picture_sizes(paths: Iterable[Path]) -> list[Size | str]:
    """`picture_size` of each path, several at a time."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(picture_size, paths))


def check_size(path: Path, annotated: Size, stored: Size) -> str | None:
    """What is wrong with the annotated (height, width) of a picture, or None.

    A picture that a camera marked as turned (EXIF) may be annotated as stored or as shown.
    """
    if annotated == stored or (annotated == stored[::-1] and _is_turned(path)):
        return None
    return (
        f"the annotation says {annotated[1]} wide and {annotated[0]} high, but {path} is {stored[1]} wide"
        f" and {stored[0]} high; correct the size, or put back the picture that was annotated"
    )


def _ends_well(path: Path, format: str | None) -> bool:
    """Whether the end marker of a JPEG or PNG is there. Other formats cannot be told without decoding."""
    marker = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(format or "")
    if marker is None:
        return False
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return marker in file.read()


def _is_turned(path: Path) -> bool:
    """Whether EXIF asks for a quarter turn, so that height and width change places."""
    with Image.open(path) as picture:
        return picture.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def count(number: int, thing: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number} {thing}{'s' * (number != 1)}"
