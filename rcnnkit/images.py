"""Pictures from wherever they come, and the batch that a network reads."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from rcnnkit.files import check_regular
from rcnnkit.ops import check_jpeg
from rcnnkit.structures import ImageBatch, Size

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
UNTURNED = {6: 8, 8: 6}  # the orientation that undoes one; each of the others undoes itself
MAX_PIXELS = 178_956_970  # more are seldom meant, and take gigabytes: half a one as they are, before any resizing

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
Array = np.ndarray

Positive = Annotated[float, Field(gt=0)]


def read_picture(picture: Picture, annotated_size: Size | None = None, *, checked: bool = False) -> Array:
    """A picture as (H, W, 3) uint8 RGB, upright.

    Args:
        picture: a path; a PIL picture; an array (H, W), (H, W, 3) or (H, W, 4), RGB, uint8, uint16,
            or float in [0, 1]; a tensor (3, H, W) or (1, H, W), uint8 or float in [0, 1].
            Alpha is dropped, grey is repeated, 16 bits become the upper 8. Grey of 32 bits, in a PIL picture or a file,
            is taken for 16 bits if it is whole numbers, and must lie in [0, 1] otherwise.
        annotated_size: (height, width) that the annotations of a file speak of. EXIF orientation is obeyed unless it
            swaps height and width and these are those of the picture as stored: then the boxes were drawn on that. A
            square tells neither, and is upright.
        checked: the file has been through `rcnnkit.data.checks.picture_size`, as those of a data set have: that no part
            of a JPEG is missing is not checked again, which takes up to a third of the time.

    Returns:
        The same pixels from a path, a PIL picture of it and an array of it; only JPEG, which OpenCV decodes from a path
        and Pillow in a PIL picture, may differ by rounding. Of `annotated_size`, where that is given.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a picture, one of a kind that is not in `FORMATS`, a damaged one, one of more than
            `max_pixels()` pixels or of another size than `annotated_size`, a FIFO or device, or an array of another
            shape, type or range.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] not in (1, 3):
            raise ValueError(f"a picture tensor must be (3, H, W) or (1, H, W), not {tuple(picture.shape)}")
        picture = picture.detach().float() if picture.is_floating_point() else picture  # numpy has no bfloat16
        return _from_array(picture.permute(1, 2, 0).cpu().numpy())
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        picture.load()  # which turns a TIFF and no other kind
        return turned(_from_pil(picture), orientation(picture))
    return _from_file(Path(picture), annotated_size, checked)


def _from_array(array: Array) -> Array:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"a picture array must be (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    array = array[:, :, :3]
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        check_unit_range(float(array.min()), float(array.max()))
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8, uint16 or float in [0, 1], not {array.dtype}")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array)


def check_unit_range(low: float, high: float) -> None:
    """Raise ValueError unless the values of a float picture lie in [0, 1]."""
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise ValueError(
            f"a float picture must lie in [0, 1], this one spans [{low:g}, {high:g}];"
            " divide by 255, or pass uint8; do not normalise it"
        )


def _from_pil(picture: Image.Image) -> Array:
    if picture.mode.startswith("I;16") or picture.mode == "I":  # 16-bit grey; convert("RGB") would clip it
        grey = np.asarray(picture)
        if grey.size and not 0 <= grey.min() <= grey.max() <= 65535:
            raise ValueError(f"grey of 16 bits goes from 0 to 65535, not {grey.min()} to {grey.max()}")
        return _from_array(grey.astype(np.uint16))
    if picture.mode == "F":
        return _from_array(np.asarray(picture))
    return np.array(picture.convert("RGB"))


def _from_file(path: Path, annotated_size: Size | None, checked: bool) -> Array:
    check_regular(path)
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; name the pictures in it") from None
    return _from_data(data, str(path), annotated_size, checked)


def _from_data(data: Array, name: str, annotated_size: Size | None, checked: bool) -> Array:
    """The picture that a file's bytes, (N,) uint8, hold; `name` is the file's, for errors."""
    if not len(data):
        raise ValueError(f"{name} is empty; copy the picture again")
    try:
        with open_picture(io.BytesIO(data.data)) as picture:
            stored, shown, turn = sizes(picture)
            if not checked and (damage := jpeg_damage(picture, data)):
                raise ValueError(damage)
            pixels = _upright(picture, data, turn)
    except TooManyPixels as error:
        raise ValueError(f"{name} {error}") from None
    except Exception as error:  # PIL raises many kinds
        raise ValueError(f"{name} cannot be decoded ({error}); copy the picture again or leave it out") from None
    if annotated_size is None or annotated_size == shown:
        return pixels
    if annotated_size == stored:
        return turned(pixels, UNTURNED.get(turn, turn))
    raise ValueError(differs(name, annotated_size, shown))


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
    return turned(_from_pil(picture), 1 if picture.format == "TIFF" else turn)  # which load has turned


def ends_well(picture: Image.Image, data: Array) -> bool:
    """Whether the end marker of a JPEG or PNG is near the end of its file. Of others only decoding tells."""
    marker = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(picture.format or "")
    return marker is not None and marker in data[-TAIL:].tobytes()  # no more of it: a thumbnail has an end of its own


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
    here = file.tell()
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
        file.seek(here)
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


def differs(path: Path | str, annotated: Size, shown: Size) -> str:
    """That a picture has another (height, width) than its annotation says."""
    return (
        f"the annotation says {annotated[1]} wide and {annotated[0]} high, but {path} is {shown[1]} wide"
        f" and {shown[0]} high; correct the size, or put back the picture that was annotated"
    )


def centre_crop(picture: Array, resize: int, crop: int) -> Tensor:
    """What a classifier sees of a picture, as torchvision's presets have it: its middle.

    Args:
        picture: (H, W, 3) uint8 RGB.
        resize: pixels of the shorter side before cropping; bilinear, of a larger picture antialiased.
        crop: pixels each way, `resize` at most.

    Returns:
        (3, crop, crop) uint8.
    """
    short = min(picture.shape[:2])
    height, width = (resize if side == short else int(resize * side / short) for side in picture.shape[:2])
    # PIL's filter widens as it shrinks a picture; OpenCV's bilinear would skip pixels.
    small = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return torch.from_numpy(small[top : top + crop, left : left + crop]).permute(2, 0, 1)


class Preprocessing(BaseModel):
    """What happens to a picture before the network sees it; kept with the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    short_side: Annotated[int, Field(ge=0)] = 800  # pixels of the shorter side (0: as it is), unless …
    long_side: Annotated[int, Field(gt=0)] = 1333  # … the longer one would exceed this
    # Several shorter sides: training draws one for each picture, and Fast R-CNN detects at all of them.
    scales: tuple[Annotated[int, Field(gt=0)], ...] = ()
    mean: tuple[float, float, float] = (
        0.485,
        0.456,
        0.406,
    )  # RGB in [0, 1]; ImageNet's, as torchvision has it (GoogLeNet's weights bring others: model.pretrained)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    divisor: Annotated[int, Field(gt=0)] = 64  # padded sides are multiples: the coarsest stride keeps cells aligned
    # Whose bilinear rule 8-bit pictures are resized by; weights from elsewhere keep the one they were trained with.
    # opencv: on 8 bits, sides rounded down. torchvision: after normalising, in float32, sides rounded down.
    # detectron2: Pillow's, on 8 bits, which averages where it shrinks; sides rounded to the nearest.
    resizing: Literal["opencv", "torchvision", "detectron2"] = "opencv"

    def at(self, short_side: int) -> Preprocessing:
        """The same with another shorter side."""
        return self.model_copy(update={"short_side": short_side})

    def resized(self, size: Size, factor: float = 1.0) -> Size:
        """The size (height, width) that a picture of `size` gets, its sides multiplied by `factor` besides."""
        short = self.short_side or min(size)
        ratio = factor * min(short / min(size), self.long_side / max(size))
        half = 0.5 if self.resizing == "detectron2" else 0.0
        return max(1, math.floor(size[0] * ratio + half)), max(1, math.floor(size[1] * ratio + half))

    def resize(self, picture: Array | Tensor, factor: float = 1.0) -> Tensor:
        """Bilinear: (H, W, 3) uint8 → (3, h, w) uint8, or (3, H, W) float in [0, 1] → (3, h, w) normalised.

        8-bit pictures are normalised by `batch`, on its device, unless `resizing` is torchvision's; the others here,
        before they are resized, which is torchvision's order, so that the same weights give its answers to the last
        digit.
        """
        if isinstance(picture, np.ndarray) and self.resizing == "torchvision":
            picture = torch.from_numpy(np.require(picture, requirements=["C", "W"])).permute(2, 0, 1) / 255
        if isinstance(picture, Tensor):
            height, width = self.resized((picture.shape[1], picture.shape[2]), factor)
            return F.interpolate(self._normalise(picture)[None], size=(height, width), mode="bilinear")[0]
        height, width = self.resized((picture.shape[0], picture.shape[1]), factor)
        if (height, width) != picture.shape[:2]:
            if self.resizing == "detectron2":
                picture = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
            else:
                picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(np.require(picture, requirements=["C", "W"])).permute(2, 0, 1)

    def _normalise(self, unit: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=unit.device)[:, None, None] for v in (self.mean, self.std))
        return (unit - mean) / std

    def batch(
        self, pictures: Sequence[Tensor], original_sizes: Sequence[Size], device: torch.device | str = "cpu"
    ) -> ImageBatch:
        """Pictures (3, h, w) from `resize` on one canvas, normalised, zero where there is no picture."""
        sizes = [(p.shape[1], p.shape[2]) for p in pictures]
        height, width = (math.ceil(max(side) / self.divisor) * self.divisor for side in zip(*sizes, strict=True))
        pixels = torch.zeros(len(pictures), 3, height, width, device=device)
        for slot, picture, (h, w) in zip(pixels, pictures, sizes, strict=True):
            picture = picture.to(device, non_blocking=True)
            slot[:, :h, :w] = self._normalise(picture / 255) if picture.dtype == torch.uint8 else picture
        return ImageBatch(pixels, sizes, list(original_sizes))

    def __call__(self, pictures: Sequence[Picture], device: torch.device | str = "cpu") -> ImageBatch:
        """Anything that `read_picture` takes → one batch, with the pictures themselves as they were decoded."""
        resized, decoded = [], []
        for picture in pictures:
            decoded.append(read_picture(picture))
            if isinstance(picture, Tensor) and picture.is_floating_point():  # the network's are not rounded to 8 bits
                resized.append(self.resize(picture.detach().float().expand(3, -1, -1)))
            else:
                resized.append(self.resize(decoded[-1]))
        images = self.batch(resized, [(each.shape[0], each.shape[1]) for each in decoded], device)
        return replace(images, pictures=decoded)
