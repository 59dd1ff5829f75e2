"""From the bytes of a picture file to upright pixels, and from arrays of any type to 8 bits.

What "upright" is, which formats are read and how many pixels are too many is decided here and nowhere else.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from rcnnkit.archives import read_file
from rcnnkit.files import check_regular
from rcnnkit.ops import check_jpeg
from rcnnkit.structures import Array, Size

# The kinds of file that are read, by Pillow's names, and how their names end. No other kind is opened, whatever a file
# is called: EPS inside would start Ghostscript.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),  # the last: several in one file, of which the first counts
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}
PICTURE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
ORIENTATION = 0x0112  # EXIF's tag
TAIL = 64  # bytes at the end of a file; some programs append a few
JPEG_END = b"\xff\xd9"
# Segments of a JPEG that turn nothing and hide nothing: JFIF, tables, intervals of restarts, comments, Adobe's colours.
PLAIN_SEGMENTS = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE, 0xEE))
UNTURNED = {6: 8, 8: 6}  # the orientation that undoes one; each of the others undoes itself
MAX_PIXELS = 178_956_970  # more are seldom meant, and take gigabytes: half a one as they are, before any resizing

# Less than half a grey level, so that rounding to 8 bits gives 0 or 255. Resizing puts floats a little outside [0, 1].
ROUNDING = 1e-3


def from_file(path: Path, annotated_size: Size | None, checked: bool) -> Array:
    check_regular(path)
    try:
        data = read_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; name the pictures in it, or pass it to rcnnkit.detect_each") from None
    return from_data(data, str(path), annotated_size, checked)


def from_data(data: Array, name: str, annotated_size: Size | None, checked: bool) -> Array:
    """The picture that a file's bytes, (N,) uint8, hold; `name` is the file's, for errors."""
    if not len(data):
        raise ValueError(f"{name} is empty; copy the picture again")
    try:
        with open_picture(io.BytesIO(data.data)) as picture:
            stored_size, shown_size, turn = sizes(picture)
            if not checked and (damage := jpeg_damage(picture, data)):
                raise ValueError(damage)
            pixels = _upright(picture, data, turn)
    except TooManyPixels as error:
        raise ValueError(f"{name} {error}") from None
    except Exception as error:  # PIL raises many kinds
        raise ValueError(f"{name} cannot be decoded ({error}); copy the picture again or leave it out") from None
    if annotated_size is None or annotated_size == shown_size:
        return pixels
    if annotated_size == stored_size:
        return turned(pixels, UNTURNED.get(turn, turn))
    raise ValueError(differs(name, annotated_size, shown_size))


def _upright(picture: Image.Image, data: Array, turn: int) -> Array:
    """Its pixels. OpenCV decodes what it decodes faster, and to the same pixels as Pillow."""
    if picture.format in ("JPEG", "MPO", "PNG") and picture.mode in ("L", "RGB") and ends_well(picture, data):
        try:
            pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:  # more pixels than OpenCV takes
            pixels = None
        if pixels is not None:  # else Pillow names the damage
            return turned(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), turn)
    picture.load()
    return turned(from_pil(picture), 1 if picture.format == "TIFF" else turn)  # which load has turned


def ends_well(picture: Image.Image, data: Array) -> bool:
    """Whether the end marker of a JPEG or PNG is near the end of its file. Of others only decoding tells."""
    marker = {"JPEG": JPEG_END, "MPO": JPEG_END, "PNG": b"IEND"}.get(picture.format or "")
    return marker is not None and marker in data[-TAIL:].tobytes()  # no more of it: a thumbnail has an end of its own


def plain_jpeg_size(data: Array) -> Size | None:
    """(height, width) of a JPEG of the most usual kind, from its header alone; None: look at it by `open_picture`.

    It is grey or of three colours of 8 bits, has an end, and nothing in it can turn it. A hundred thousand of them are
    looked at in a fraction of the time that Pillow takes to open them.
    """
    head, at, size = data.data, 2, None
    if head[:3] != b"\xff\xd8\xff" or JPEG_END not in data[-TAIL:].tobytes():
        return None
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], head[at + 2] << 8 | head[at + 3]
        body = head[at + 4 : at + 2 + length]
        deep = marker == 0xDB and (len(body) % 65 or any(table >> 4 for table in body[::65]))  # tables of 16 bits
        if marker == 0xDA:
            return size if size and 0 < size[0] * size[1] <= max_pixels() else None
        if marker in (0xC0, 0xC1, 0xC2) and size is None:
            if len(body) < 6 or body[0] != 8 or body[5] not in (1, 3) or len(body) != 6 + 3 * body[5]:
                return None
            size = body[1] << 8 | body[2], body[3] << 8 | body[4]
        elif marker not in PLAIN_SEGMENTS or length < 2 or deep:
            return None
        at += 2 + length
    return None


def jpeg_damage(picture: Image.Image, data: Array) -> str | None:
    """What is wrong with the pixels of a JPEG, or None; decoders make them grey without a word. Of others, None."""
    return check_jpeg(data) if picture.format in ("JPEG", "MPO") else None


class TooManyPixels(ValueError):
    """A picture with more pixels than are meant to be decoded; the text goes on after its name."""

    def __init__(self, pixels: str, limit: int) -> None:
        super().__init__(
            f"has {pixels} pixels, more than {limit:,}; cut it into tiles, or set the environment variable"
            " RCNNKIT_MAX_PIXELS to more"
        )


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """A picture's header, as a PIL picture that is not decoded yet.

    Raises:
        TooManyPixels: more than `max_pixels()`.
        ValueError: it is of none of `FORMATS`, or damaged; and whatever else Pillow raises of damage.
    """
    limit = max_pixels()
    if "RCNNKIT_MAX_PIXELS" in os.environ and limit > 2 * (Image.MAX_IMAGE_PIXELS or limit):
        Image.MAX_IMAGE_PIXELS = limit  # Pillow's own limit would come before the user's
    Image.init()
    try:
        picture = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])  # older ones lack AVIF
    except UnidentifiedImageError:  # whose text names an object in memory
        raise ValueError("no known kind of picture") from None
    except Image.DecompressionBombError as error:  # Pillow's limit is the same one, unless somebody has changed it
        number = re.search(r"\d+", str(error))
        raise TooManyPixels(f"{int(number[0]):,}" if number else "too many", limit) from None
    width, height = picture.size
    if width * height > limit:
        picture.close()
        raise TooManyPixels(f"{width} × {height}", limit)
    return picture


def max_pixels() -> int:
    """How many pixels a picture file may have: the environment variable RCNNKIT_MAX_PIXELS, or `MAX_PIXELS`.

    Raises:
        ValueError: the variable is not a whole number above 0.
    """
    text = os.environ.get("RCNNKIT_MAX_PIXELS", str(MAX_PIXELS))
    if not text.isdecimal() or not int(text):
        raise ValueError(f"the environment variable RCNNKIT_MAX_PIXELS is {text!r}, expected a whole number above 0")
    return int(text)


def sizes(picture: Image.Image) -> tuple[Size, Size, int]:
    """(height, width) as stored, and as shown, of a picture that is not decoded yet; and how EXIF turns it."""
    width, height = picture.size
    if isinstance(picture, TiffImagePlugin.TiffImageFile):  # of which newer Pillows say the size as shown
        width, height = picture.tag_v2[TiffImagePlugin.IMAGEWIDTH], picture.tag_v2[TiffImagePlugin.IMAGELENGTH]
    turn = orientation(picture)
    return (height, width), (width, height) if turn >= 5 else (height, width), turn


def orientation(picture: Image.Image) -> int:
    """How to turn a picture upright, 1 (not at all) to 8: EXIF's number, or XMP's where EXIF has none, as in Pillow.

    A number that there is not, and EXIF that cannot be read, count as 1.
    """
    try:
        # Not PNG's own getexif, which decodes the picture in search of EXIF behind the pixels.
        turn = Image.Image.getexif(picture).get(ORIENTATION)
        if turn is None and picture.format == "PNG":
            turn = _exif_behind_pixels(picture)
    except Exception:  # of many kinds
        return 1
    return turn if isinstance(turn, int) and 2 <= turn <= 8 else 1


def _exif_behind_pixels(picture: Image.Image) -> int | None:
    """The orientation of a PNG whose EXIF comes behind its pixels, where Pillow sees it only when it decodes them."""
    if "exif" in picture.info or (file := getattr(picture, "fp", None)) is None:
        return None
    position = file.tell()
    try:
        file.seek(8)  # behind the signature: chunks of length, kind, content and checksum
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf":
                exif = Image.Exif()
                exif.load(b"Exif\0\0" + file.read(length))
                return exif.get(ORIENTATION)
            file.seek(length + 4, os.SEEK_CUR)
    finally:
        file.seek(position)
    return None


def turned(pixels: Array, turn: int) -> Array:
    """(H, W, 3) pixels, turned and mirrored as EXIF's orientation asks: those of a stored picture upright."""
    if turn >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def differs(path: Path | str, annotated_size: Size, shown_size: Size) -> str:
    """That a picture has another (height, width) than its annotation says."""
    return (
        f"the annotation says {annotated_size[1]} wide and {annotated_size[0]} high, but {path} is {shown_size[1]} wide"
        f" and {shown_size[0]} high; correct the size, or put back the picture that was annotated"
    )


def from_pil(picture: Image.Image) -> Array:
    if picture.mode.startswith("I;16") or picture.mode == "I":  # 16-bit grey; convert("RGB") would clip it
        grey = np.asarray(picture)
        if grey.size and not 0 <= grey.min() <= grey.max() <= 65535:
            raise ValueError(f"grey of 16 bits goes from 0 to 65535, not {grey.min()} to {grey.max()}")
        return from_array(grey.astype(np.uint16))
    if picture.mode == "F":
        return from_array(np.asarray(picture))
    return np.array(picture.convert("RGB"))


def from_array(array: Array) -> Array:
    if array.dtype.kind in "OSU":
        raise ValueError(f"an array of {array.dtype} holds no pixels; pass its elements as a list: array.tolist()")
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"a picture array must be (H, W), (H, W, 3) or (H, W, 4), not {shape}{_array_advice(shape)}")
    array = array[:, :, :3]
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        check_unit_range(float(array.min()), float(array.max()))
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"a picture must be uint8, uint16 or float in [0, 1], not {array.dtype}; if its values go from 0 to 255,"
            " convert them to uint8"
        )
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array)


def check_unit_range(low: float, high: float) -> None:
    """Raise ValueError unless the values of a float picture lie in [0, 1], or outside by rounding alone."""
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # also catches NaN
        raise ValueError(
            f"a float picture must lie in [0, 1], this one spans [{low:g}, {high:g}];"
            " divide by 255, or pass uint8; do not normalise it; clip what a resize took beyond"
        )


def _array_advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "; of a batch pass each picture: list(batch)"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; pass array.transpose(1, 2, 0)"
    return ""
