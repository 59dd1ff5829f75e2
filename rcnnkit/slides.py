"""TIFF files that are too large to be read as a whole, such as GeoTIFF and scanned slides: parts of them.

tifffile reads them (the extra `slides`), BigTIFF included, and what is compressed as imagecodecs does. It needs no
library of the system, and reads what GDAL and OpenSlide each read a part of.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from rcnnkit.decoding import TooManyPixels, from_array, open_picture
from rcnnkit.structures import Array, Size
from rcnnkit.tiles import Part

LARGE = 1 << 24  # pixels; a picture of fewer is read as a whole, in every way that TIFF can hold one
SUFFIXES = (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".scn")  # how the names of such files end
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF, of both byte orders
BAND = 1 << 24  # pixels that an overview is made of at a time
SHOWN = 2000  # pixels of the longer side of an overview for people


class Slide:
    """A TIFF file of which parts are read. It can be sent to another process.

    Args:
        path: the file; its first picture counts, which in slides is the one of most pixels.

    Raises:
        ValueError: tifffile is not installed, it is no TIFF, or of a kind that is not read in parts: of other values
            than 8 or 16 bits, a palette, colours in planes of their own, white as 0, or to be turned.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._tiff: Any = None
        page = self._page()
        self.size: Size = (page.imagelength, page.imagewidth)
        ends = np.array(page.dataoffsets, np.int64) + np.array(page.databytecounts, np.int64)
        if ends.max(initial=0) > self.path.stat().st_size:
            self.close()
            raise ValueError(f"{self.path} ends within its pixels; copy it again")

    def _page(self) -> Any:
        if self._tiff is None:
            try:
                from tifffile import TiffFile, TiffFileError
            except ImportError:
                raise ValueError(
                    f"{self.path}: parts of a TIFF file are read by tifffile; install it: pip install 'rcnnkit[slides]'"
                ) from None
            try:
                self._tiff = TiffFile(self.path)
                page = self._tiff.pages.first
            except (TiffFileError, ValueError, IndexError, KeyError) as error:
                self.close()
                raise ValueError(f"{self.path} is no whole TIFF file ({error}); copy it again") from None
            if unknown := _unknown(page):
                self.close()
                raise ValueError(f"{self.path} is not read in parts: {unknown}; convert it to 8-bit RGB")
        return self._tiff.pages.first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tiff": None}

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r})"

    def close(self) -> None:
        """Close the file; the next part opens it again."""
        if self._tiff is not None:
            self._tiff.close()
            self._tiff = None

    def cut(self, part: Part) -> Array:
        """A part of the picture, (h, w, 3) uint8 RGB, as `rcnnkit.images.read_picture` gives the whole.

        Raises:
            ValueError: it cannot be decoded.
        """
        page = self._page()
        x1, y1, x2, y2 = part
        high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.size[1])
        high, across = min(high, self.size[0]) if not page.is_tiled else high, math.ceil(self.size[1] / wide)
        pixels = np.zeros((y2 - y1, x2 - x1, page.samplesperpixel), page.dtype)
        for row in range(y1 // high, math.ceil(y2 / high)):
            for column in range(x1 // wide, math.ceil(x2 / wide)):
                stored = self._stored(page, row * across + column)
                if stored is None:  # a file may leave out what is empty
                    continue
                top, left = row * high, column * wide
                bottom, right = top + stored.shape[0], left + stored.shape[1]
                y, x = slice(max(y1, top), min(y2, bottom)), slice(max(x1, left), min(x2, right))
                pixels[y.start - y1 : y.stop - y1, x.start - x1 : x.stop - x1] = stored[
                    y.start - top : y.stop - top, x.start - left : x.stop - left
                ]
        return from_array(pixels[:, :, :1] if page.samplesperpixel < 3 else pixels[:, :, :3])

    def _stored(self, page: Any, index: int) -> Array | None:
        """One of the pieces that the file holds, (h, w, samples)."""
        length = page.databytecounts[index]
        if not length:
            return None
        file = self._tiff.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(length)  # before anything else of the page is asked for, which may read elsewhere
        try:
            tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
            stored: Array | None = page.decode(data, index, **tables)[0]
        except Exception as error:  # of as many kinds as there are codecs
            raise ValueError(f"{self.path} cannot be decoded ({error}); copy it again or leave it out") from None
        return None if stored is None else stored[0]

    def overview(self, size: Size) -> Array:
        """The whole picture, shrunk to (height, width) by averages: (height, width, 3) uint8 RGB. Raises as `cut`."""
        pixels = np.empty((*size, 3), np.uint8)
        rows = max(1, BAND * size[0] // (self.size[0] * self.size[1]))  # of the overview, at a time
        for top in range(0, size[0], rows):
            bottom = min(size[0], top + rows)
            y1, y2 = top * self.size[0] // size[0], -(-bottom * self.size[0] // size[0])
            band = self.cut((0, y1, self.size[1], y2))
            pixels[top:bottom] = cv2.resize(band, (size[1], bottom - top), interpolation=cv2.INTER_AREA)
        return pixels

    @property
    def shown_size(self) -> Size:
        """(height, width) of an overview for people: its longer side is `SHOWN` pixels at most."""
        ratio = min(1, SHOWN / max(self.size))
        return max(1, round(self.size[0] * ratio)), max(1, round(self.size[1] * ratio))


def _unknown(page: Any) -> str:
    """Why a TIFF's picture cannot be read in parts; "" where it can."""
    colours = page.photometric.name if hasattr(page.photometric, "name") else str(page.photometric)
    if page.dtype is None or page.dtype.name not in ("uint8", "uint16"):
        return f"its values are {page.dtype}"
    if colours not in ("RGB", "MINISBLACK", "YCBCR") or (colours == "YCBCR" and page.compression.name != "JPEG"):
        return f"its colours are {colours}"
    if page.planarconfig != 1 and page.samplesperpixel > 1:
        return "each colour is in a plane of its own"
    if page.imagedepth != 1:
        return "it has a depth"
    orientation = page.tags.get("Orientation")
    return "it is to be turned" if orientation is not None and orientation.value not in (0, 1) else ""


def open_slide(path: Path | str) -> Slide | None:
    """The slide in a file of more than `LARGE` pixels; None for any other picture, and what is not read in parts.

    Raises:
        ValueError: it has too many pixels to be read as a whole, and tifffile is not installed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if file.read(4) not in MAGIC:
                return None
        if find_spec("tifffile") is None:
            _check_size(path)
            return None
        slide = Slide(path)
    except OSError:  # which reading it says
        return None
    except ValueError:
        if find_spec("tifffile") is None:
            raise
        return None
    slide.close()
    return slide if slide.size[0] * slide.size[1] > LARGE else None


def _check_size(path: Path) -> None:
    """Raise ValueError where a TIFF is too large to be read as a whole."""
    try:
        open_picture(path).close()
    except TooManyPixels:
        raise ValueError(
            f"{path} is too large to be read as a whole; its tiles are read by tifffile: pip install 'rcnnkit[slides]'"
        ) from None
    except Exception:  # which reading it says
        return
