"""Pictures from wherever they come, and the batch that a network reads."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field
from torch import Tensor

from rcnnkit.settings import Section
from rcnnkit.structures import ImageBatch, Size

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
Array = np.ndarray

Positive = Annotated[float, Field(gt=0)]


def read_picture(picture: Picture, annotated_size: Size | None = None) -> Array:
    """A picture as (H, W, 3) uint8 RGB, upright.

    Args:
        picture: a path; a PIL picture; an array (H, W), (H, W, 3) or (H, W, 4), RGB, uint8, uint16,
            or float in [0, 1]; a tensor (3, H, W) or (1, H, W), uint8 or float in [0, 1].
            Alpha is dropped, grey is repeated, 16 bits become the upper 8. Grey of 32 bits, in a PIL picture or a TIFF
            file, is taken for 16 bits if it is whole numbers, and must lie in [0, 1] otherwise.
        annotated_size: (height, width) that the annotations of a file speak of. EXIF orientation
            is obeyed unless that would swap these: then the boxes were drawn on the picture as stored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a picture, a truncated one, or an array of another shape, type or range.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] not in (1, 3):
            raise ValueError(f"a picture tensor must be (3, H, W) or (1, H, W), not {tuple(picture.shape)}")
        picture = picture.detach().float() if picture.is_floating_point() else picture  # numpy has no bfloat16
        return _from_array(picture.permute(1, 2, 0).cpu().numpy())
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        return _from_pil(ImageOps.exif_transpose(picture))
    return _from_file(Path(picture), annotated_size)


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


def _from_file(path: Path, annotated_size: Size | None) -> Array:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; name the pictures in it") from None
    if not data:
        raise ValueError(f"{path} is empty; copy the picture again")
    # OpenCV 4 decodes a cut-off JPEG to a half-grey picture with no more than a warning, so look for its end
    # first; only near the end of the file, as a thumbnail has an end of its own.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]:
        _decode_strictly(path, data)
    raw = np.frombuffer(data, np.uint8)
    try:
        picture = None if _has_32_bits(data) else cv2.imdecode(raw, cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV takes
        picture = None
    if picture is None:
        # Formats and damage that OpenCV does not know or name.
        picture = _decode_strictly(path, data)[:, :, ::-1]
    if annotated_size and picture.shape[:2] == tuple(reversed(annotated_size)) and picture.shape[0] != picture.shape[1]:
        stored = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        picture = picture if stored is None else stored
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _has_32_bits(data: bytes) -> bool:
    """Whether it is a TIFF of grey numbers, which OpenCV makes black or white of."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    with suppress(Exception), Image.open(io.BytesIO(data)) as picture:  # of PIL's many kinds; it is told in decoding
        return picture.mode in ("I", "F")
    return False


def _decode_strictly(path: Path, data: bytes) -> Array:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return _from_pil(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:  # whose text names no file, but an object in memory
        raise ValueError(
            f"{path} cannot be decoded (no known kind of picture); copy the picture again or leave it out"
        ) from None
    except Exception as error:  # PIL raises many kinds
        raise ValueError(f"{path} cannot be decoded ({error}); copy the picture again or leave it out") from None


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


class Preprocessing(Section):
    """[input]: what happens to a picture before the network sees it; kept with the weights."""

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
