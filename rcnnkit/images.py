"""Pictures from wherever they come, and the batch that a network reads."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor

from rcnnkit.decoding import from_array, from_data, from_file, from_pil, orientation, turned
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, ImageBatch, Size
from rcnnkit.tiles import ViewSettings

Picture = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray | Tensor | Slide
)

LONGEST_PATH = 4096  # letters; the most that Linux takes

Positive = Annotated[float, Field(gt=0)]
Read = TypeVar("Read")


def list_pictures(pictures: Picture | Iterable[Picture]) -> list[Picture] | None:
    """The pictures of a list, tuple, iterator or view, or of a batch in one array or tensor; None for a single picture.

    Args:
        pictures: what `read_picture` takes, or several of these; arrays (B, H, W, 3) and tensors (B, 3, H, W) are B
            pictures.

    Raises:
        TypeError: it is neither.
        ValueError: a tensor (B, H, W, 3).
    """
    several = each_picture(pictures)
    return None if several is None else list(several)


def each_picture(pictures: Any) -> Iterable[Any] | None:
    """As `list_pictures`, without reading an iterator. What the items are is not checked."""
    if isinstance(pictures, np.ndarray | Tensor):
        if isinstance(pictures, Tensor) and pictures.ndim == 4 and pictures.shape[1] > 3 >= pictures.shape[3]:
            raise ValueError(
                f"a batch in a tensor must be (B, 3, H, W) or (B, 1, H, W), not {tuple(pictures.shape)}; pass"
                " tensor.permute(0, 3, 1, 2)"
            )
        return pictures if pictures.ndim == 4 else None
    if _is_picture(pictures):
        return None
    if isinstance(pictures, Mapping):
        raise TypeError("a dict of pictures has no order to answer in; pass its values: list(pictures.values())")
    if isinstance(pictures, set | frozenset):
        raise TypeError("a set of pictures has no order to answer in; pass a list: sorted(pictures)")
    if not isinstance(pictures, Iterable):
        raise _no_picture(pictures)
    return pictures


def read_picture(picture: Picture, annotated_size: Size | None = None, *, checked: bool = False) -> Array:
    """A picture as (H, W, 3) uint8 RGB, upright.

    Args:
        picture: a path; the bytes of a picture file, or an open file that gives them; a PIL picture; an array (H, W),
            (H, W, 3) or (H, W, 4), RGB, uint8, uint16, or float in [0, 1]; a tensor (3, H, W) or (1, H, W), uint8 or
            float in [0, 1]. Floats may lie 0.001 outside, as rounding in a resize leaves them.
            Alpha is dropped, grey is repeated, 16 bits become the upper 8. Grey of 32 bits, in a PIL picture or a file,
            is taken for 16 bits if it is whole numbers, and must lie in [0, 1] otherwise.
        annotated_size: (height, width) that the annotations of a file speak of. EXIF orientation is obeyed unless it
            swaps height and width and these are those of the picture as stored: then the boxes were drawn on that. A
            square tells neither, and is upright.
        checked: the file has been through `rcnnkit.data.checks.picture_size`, as those of a data set have. That no part
            of a JPEG is missing is not checked again, which takes up to a third of the time.

    Returns:
        The same pixels from a path, a PIL picture of it and an array of it. Only JPEG, which OpenCV decodes from a path
        and Pillow in a PIL picture, may differ by rounding. Of `annotated_size`, where that is given.

    Raises:
        FileNotFoundError: no such file.
        TypeError: something that is not a picture, such as None or a list.
        ValueError: not a picture, one of a kind that is not in `rcnnkit.decoding.FORMATS`, a damaged one, one of more
            than `rcnnkit.decoding.max_pixels()` pixels or of another size than `annotated_size`, a FIFO or device, or
            an array of another shape, type or range.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] not in (1, 3):
            shape = tuple(picture.shape)
            raise ValueError(f"a picture tensor must be (3, H, W) or (1, H, W), not {shape}{_tensor_advice(shape)}")
        picture = picture.detach().float() if picture.is_floating_point() else picture  # numpy has no bfloat16
        return from_array(picture.permute(1, 2, 0).cpu().numpy())
    if isinstance(picture, np.ndarray):
        return from_array(picture)
    if isinstance(picture, Image.Image):
        return _from_open_pil(picture)
    if isinstance(picture, Slide):
        picture = picture.path
    if isinstance(picture, bytes | bytearray | memoryview):
        return _from_bytes(picture, f"the picture of {len(picture)} bytes", annotated_size, checked)
    if not _is_picture(picture):
        raise _no_picture(picture)
    if not isinstance(picture, str | os.PathLike):
        return _from_bytes(*_contents(picture), annotated_size, checked)
    _check_path(os.fspath(picture))
    return from_file(Path(picture), annotated_size, checked)


def _from_bytes(data: bytes | bytearray | memoryview, name: str, annotated_size: Size | None, checked: bool) -> Array:
    return from_data(np.frombuffer(bytearray(data), np.uint8), name, annotated_size, checked)


def read_pictures(pictures: Sequence[Picture]) -> list[Array]:
    """Each as of `read_picture`. Errors say which of several it is, as `pictures[1]`."""
    return read_each(pictures, read_picture)


def read_each(pictures: Sequence[Picture], read: Callable[[Picture], Read]) -> list[Read]:
    """What `read` makes of each. Errors say which of several it is, as `pictures[1]`."""
    results = []
    for i, picture in enumerate(pictures):
        try:
            results.append(read(picture))
        except (TypeError, ValueError) as error:
            if len(pictures) == 1:
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"pictures[{i}]: {error}") from None
    return results


def _is_picture(value: object) -> bool:
    """Whether it is of a kind that can be one picture; open files are known by their `read`."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, Tensor, Slide)
    return isinstance(value, kinds) or hasattr(value, "read")


def _no_picture(value: object) -> TypeError:
    """What was given in the place of a picture, and what to give."""
    if value is None:
        return TypeError(
            "None is not a picture; cv2.imread returns it for a file that it cannot read, so pass the path itself"
        )
    kind = f"a value of type {type(value).__name__}"
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return TypeError(
            f"{kind} is not a picture; pass several pictures as one flat list, and pixels as an array: numpy.asarray(…)"
        )
    return TypeError(f"{kind} is not a picture; pass a path, bytes, an open file, a PIL picture, an array or a tensor")


def _check_path(name: str) -> None:
    """Raise ValueError for text that is given for a path and is none."""
    if not name:
        raise ValueError("'' is not a path; give the path of a picture")
    if re.match(r"data:|[A-Za-z][A-Za-z0-9+.-]+:/", name):
        shown = name if len(name) <= 200 else f"{name[:100]}…"
        raise ValueError(
            f"{shown} is a URL, and nothing is downloaded here; pass it to rcnnkit.detect_each or `rcnnkit detect`,"
            " or pass the bytes that it leads to"
        )
    if len(name) > LONGEST_PATH:
        raise ValueError(
            f"a text of {len(name):,} letters that begins with {name[:20]!r} is not a path; if it is base64, pass"
            " base64.b64decode(text)"
        )


def _contents(file: IO[bytes]) -> tuple[bytes, str]:
    """The rest of an open file, and what errors call it. Raises TypeError or ValueError."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else f"the {type(file).__name__} given"
    try:
        data = file.read()
    except Exception as error:  # of as many kinds as there are kinds of files
        raise ValueError(
            f"{name} cannot be read ({error or type(error).__name__}); open it again, in mode 'rb'"
        ) from None
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"{name} gives {type(data).__name__} and not bytes; open it in mode 'rb'")
    if not data:
        raise ValueError(f"{name} is empty, or read to its end already; call its seek(0) first")
    return bytes(data), name


def _tensor_advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "; of a batch pass each picture: list(batch)"
    if len(shape) == 3 and shape[2] in (1, 3):
        return "; pass tensor.permute(2, 0, 1)"
    if len(shape) == 3 and shape[0] == 4:
        return "; leave out alpha: tensor[:3]"
    return "; pass tensor[None]" if len(shape) == 2 else ""


def _from_open_pil(picture: Image.Image) -> Array:
    name = getattr(picture, "filename", "")
    try:
        if picture.format == "TIFF":  # Pillow turns it in load, and confuses its sides when it maps a file into memory
            picture.filename = ""  # type: ignore[attr-defined]  # so it reads
        picture.load()
    except Exception as error:  # PIL raises many kinds; for a closed file AssertionError without a text
        reason = "its file was closed before its pixels were read" if not str(error) else str(error)
        raise ValueError(
            f"the PIL picture {name or 'given'} cannot be decoded ({reason}); pass its path, or call its load() while"
            " its file is open"
        ) from None
    finally:
        if picture.format == "TIFF":
            picture.filename = name  # type: ignore[attr-defined]
    return turned(from_pil(picture), orientation(picture))


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


class Preprocessing(ViewSettings):
    """[input]: what happens to a picture before the network sees it. Kept with the weights."""

    short_side: Annotated[int, Field(ge=0)] = 800
    """Pixels of a picture's shorter side after resizing, unless the longer one would exceed `long_side`. 800 is
    torchvision's and detectron2's, the papers have 600 (Fast R-CNN 5.2). 0: as it is."""
    long_side: Annotated[int, Field(gt=0)] = 1333
    """The most pixels that the longer side may have; the papers have 1000."""
    scales: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Several shorter sides, pixels: training draws one for each picture, and Fast R-CNN detects at all of them (Fast
    R-CNN 2.4). Empty: `short_side` alone."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of the pixels, red, green, blue, each in [0, 1]; it is subtracted. The default is torchvision's for
    ImageNet; with `model.pretrained` the weights bring their own."""
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    """Standard deviation of the pixels, red, green, blue, each in units of [0, 1]; they are divided by it."""
    divisor: Annotated[int, Field(gt=0)] = 64
    """The padded sides of a batch are multiples of this many pixels, so that the cells of the coarsest map keep their
    places."""
    resizing: Literal["opencv", "torchvision", "detectron2"] = "opencv"
    """Whose bilinear rule pictures of 8 bits are resized by. opencv: on 8 bits, sides rounded down. torchvision: on
    normalised float32, sides rounded down. detectron2: Pillow's, on 8 bits, which averages where it shrinks, sides
    rounded to the nearest. Weights from elsewhere keep the rule that they were trained with."""

    def at(self, short_side: int) -> Preprocessing:
        """The same with another shorter side."""
        return self.model_copy(update={"short_side": short_side})

    def resized(self, size: Size, factor: float = 1.0) -> Size:
        """The size (height, width) that a picture of `size` gets, its sides multiplied by `factor` besides."""
        short = self.short_side or min(size)
        ratio = factor * min(short / min(size), self.long_side / max(size))
        half = 0.5 if self.resizing == "detectron2" else 0.0
        return max(1, math.floor(size[0] * ratio + half)), max(1, math.floor(size[1] * ratio + half))

    def enlargement(self, size: Size) -> tuple[float, float]:
        """By what the height and width of objects in a picture of `size` are multiplied for the network."""
        part = self.part_size(size)
        height, width = self.resized(part)
        return height / part[0], width / part[1]

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

    def canvas(self, sizes: Sequence[Size]) -> Size:
        """The size (height, width) of a batch with pictures of these sizes."""
        height, width = (math.ceil(max(side) / self.divisor) * self.divisor for side in zip(*sizes, strict=True))
        return height, width

    def _normalise(self, unit: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).to(unit.device, non_blocking=True)[:, None, None] for v in (self.mean, self.std))
        return (unit - mean) / std

    def check_normalised(self, low: float, high: float, fix: str) -> None:
        """Raise ValueError where pixels from `low` to `high` are none that normalising makes, but 0 to 255 or NaN.

        Half of the range is allowed on either side, for augmentations of normalised pixels.
        """
        lowest = min(-mean / std for mean, std in zip(self.mean, self.std, strict=True))
        highest = max((1 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
        room = (highest - lowest) / 2
        if not (low >= lowest - room and high <= highest + room):  # also catches NaN
            raise ValueError(
                f"the pixels span [{low:g}, {high:g}], but normalised ones lie in [{lowest:.3g}, {highest:.3g}]; {fix}"
            )

    def batch(
        self, pictures: Sequence[Tensor], original_sizes: Sequence[Size], device: torch.device | str
    ) -> ImageBatch:
        """Pictures (3, h, w) from `resize` on one canvas, normalised, zero where there is no picture."""
        sizes = [(p.shape[1], p.shape[2]) for p in pictures]
        height, width = self.canvas(sizes)
        pixels = torch.zeros(len(pictures), 3, height, width, device=device)
        for slot, picture, (h, w) in zip(pixels, pictures, sizes, strict=True):
            picture = picture.to(device, non_blocking=True)
            slot[:, :h, :w] = self._normalise(picture / 255) if picture.dtype == torch.uint8 else picture
        return ImageBatch(pixels, sizes, list(original_sizes))

    def __call__(
        self, pictures: Sequence[Picture], device: torch.device | str = "cpu", factor: float = 1.0
    ) -> ImageBatch:
        """Anything that `read_picture` takes → one batch, with the pictures themselves as they were decoded.

        Their sides are multiplied by `factor` besides.
        """
        resized, decoded = self._read(pictures, factor)
        images = self.batch(resized, [(array.shape[0], array.shape[1]) for array in decoded], device)
        return replace(images, pictures=decoded)

    def one_by_one(
        self, pictures: Sequence[Picture], device: torch.device | str = "cpu", factor: float = 1.0
    ) -> list[ImageBatch]:
        """The same as a batch for each picture, which is padded to `divisor` alone."""
        return [
            replace(self.batch([small], [(array.shape[0], array.shape[1])], device), pictures=[array])
            for small, array in zip(*self._read(pictures, factor), strict=True)
        ]

    def unseen(self, pictures: Sequence[Picture], device: torch.device | str = "cpu") -> ImageBatch:
        """The same without pixels, (B, 3, 0, 0), for a detector that resizes the pictures itself."""
        arrays = read_pictures(pictures)
        originals = [(array.shape[0], array.shape[1]) for array in arrays]
        pixels = torch.empty(len(arrays), 3, 0, 0, device=device)
        return ImageBatch(pixels, [self.resized(size) for size in originals], originals, arrays)

    def _read(self, pictures: Sequence[Picture], factor: float) -> tuple[list[Tensor], list[Array]]:
        """Each picture as of `resize`, and as of `read_picture`."""
        inputs, arrays = [], read_pictures(pictures)
        for picture, array in zip(pictures, arrays, strict=True):
            if isinstance(picture, Tensor) and picture.is_floating_point():  # the network's are not rounded to 8 bits
                inputs.append(self.resize(picture.detach().float().expand(3, -1, -1), factor))
            else:
                inputs.append(self.resize(array, factor))
        return inputs, arrays
