"""A canvas for a picture: lines and texts that grow with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from rcnnkit.boxes import clip
from rcnnkit.colours import Colour
from rcnnkit.drawing.fonts import Run, plain, runs
from rcnnkit.files import check_new
from rcnnkit.images import Picture, read_picture
from rcnnkit.structures import Array
from rcnnkit.text import visible

Frame = tuple[int, int, int, int]  # first and last pixel column and row: x, y, x, y

LARGEST = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".gif": 65_535}  # pixels of a side


class Canvas:
    """A copy of a picture to draw on, with lines and text that grow with it.

    Args:
        picture: as `read_picture` takes it; never modified.

    Raises:
        What `read_picture` raises for a picture that it cannot read.
    """

    def __init__(self, picture: Picture) -> None:
        self.image = Image.fromarray(read_picture(picture).copy())  # RGB, upright
        self.pencil = ImageDraw.Draw(self.image)
        self.font_size = max(10, self.pixels(12.8))

    def pixels(self, at_640: float) -> int:
        """How wide a line is that has so many pixels in a picture of 640."""
        return max(1, round(max(self.image.size) * at_640 / 640))

    def outline(self, boxes: Tensor, colours: Sequence[Colour], thickness: int) -> list[Frame | None]:
        """Draws a frame for each box and says where, or None where there is nothing to see of it."""
        width, height = self.image.size
        frames = [_frame(box, (width, height), thickness) for box in clip(boxes, (height, width)).tolist()]
        for frame, colour in zip(frames, colours, strict=True):
            if frame:
                self.pencil.rectangle(frame, outline=colour, width=thickness)
        return frames

    def write(self, frame: Frame, text: str, colour: Colour) -> None:
        """The text in one line on a plate of the colour: above the frame, or within it at the top of a picture.

        Letters that no font of the system has are drawn as their code points.
        """
        self.write_all([frame], [text], [colour])

    def write_all(self, frames: Sequence[Frame | None], texts: Sequence[str], colours: Sequence[Colour]) -> None:
        """`write` each, the last one on top. A plate that would lie over that of a later text goes to another place
        near its frame, if one is free; nothing is written where there is no frame or no text.
        """
        rectangles = np.zeros((0, 4), int)
        plates = [_Plate(self, text) if frame and text else None for frame, text in zip(frames, texts, strict=True)]
        corners = dict[int, tuple[int, int]]()
        for number in reversed(range(len(plates))):  # the later ones have the first choice
            plate, frame = plates[number], frames[number]
            if plate and frame:
                x, y = corners[number] = plate.corner(frame, self.image.size, rectangles)
                rectangles = np.vstack([rectangles, (x, y, x + plate.width, y + plate.height)])
        for number, colour in enumerate(colours):
            if plate := plates[number]:
                plate.draw(self.pencil, corners[number], colour)


class _Plate:
    """A text in one line, as large as the canvas writes, or smaller so that it fits into the picture."""

    def __init__(self, canvas: Canvas, text: str) -> None:
        text = visible(" ".join(text.split()))
        size = canvas.font_size
        self.margin = max(1, size // 6)
        while size > 6 and _length(canvas.pencil, runs(text, size)) + 2 * self.margin > canvas.image.width:
            size -= 1
        self.parts = runs(text, size)
        # From the fonts and not from this text's letters, so that all plates are equally high.
        metrics = [font.getmetrics() for font in (plain(size), *(font for _, font in self.parts))]
        self.ascent, descent = (max(each) for each in zip(*metrics, strict=True))
        self.width = math.ceil(_length(canvas.pencil, self.parts)) + 2 * self.margin
        self.height = self.ascent + descent

    def corner(self, frame: Frame, size: tuple[int, int], rectangles: Array) -> tuple[int, int]:
        """Its left and upper end in a picture of (width, height), apart from the `rectangles` (N, 4) if possible."""
        width, height = size
        left, top, right, bottom = frame
        lowest, last = max(0, height - self.height), max(0, width - self.width)
        # Above the frame or below it, within it, and a line farther away; from its left end, or to its right one.
        usual = top - self.height if top >= self.height else max(0, min(top, lowest))
        below = bottom + 1
        others = (below, top, below - self.height, top - 2 * self.height, below + self.height)
        for y in (usual, *(row for row in others if 0 <= row <= lowest)):
            for x in (max(0, min(left, last)), max(0, min(right + 1 - self.width, last))):
                over = (rectangles[:, :2] < (x + self.width, y + self.height)) & (rectangles[:, 2:] > (x, y))
                if not over.all(axis=1).any():
                    return x, y
        return max(0, min(left, last)), usual

    def draw(self, pencil: ImageDraw.ImageDraw, corner: tuple[int, int], colour: Colour) -> None:
        x, y = corner
        pencil.rectangle((x, y, x + self.width - 1, y + self.height - 1), fill=colour)
        start: float = x + self.margin
        for part, font in self.parts:
            pencil.text((start, y + self.ascent), part, fill=_readable_on(colour), font=font, anchor="ls")
            start += pencil.textlength(part, font)


def _length(pencil: ImageDraw.ImageDraw, parts: Sequence[Run]) -> float:
    return sum(pencil.textlength(part, font) for part, font in parts)


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Write a picture; as a PNG instead where the format that `path` ends with does not hold so many pixels a side.

    Returns:
        The file that was written.

    Raises:
        FileExistsError: the PNG is there already.
        OSError: the file cannot be written.
    """
    if max(picture.size) > LARGEST.get(path.suffix.lower(), math.inf):
        path = path.with_suffix(".png")
        check_new(path)
    picture.save(path, quality=92)
    return path


def _frame(box: list[float], size: tuple[int, int], thickness: int) -> Frame | None:
    """The frame of a clipped box; None for none."""
    if not (box[2] > box[0] and box[3] > box[1]):  # outside the picture, inverted or NaN
        return None
    # Continuous x covers the pixels from floor(x1) to ceil(x2) - 1.
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = math.ceil(box[2]) - 1, math.ceil(box[3]) - 1
    if min(right - left, bottom - top) < 4 * thickness:
        left, top, right, bottom = left - thickness, top - thickness, right + thickness, bottom + thickness
    width, height = size
    return max(left, 0), max(top, 0), min(right, width - 1), min(bottom, height - 1)


def _readable_on(colour: Colour) -> Colour:
    """Black or white, whichever contrasts more (relative luminance, WCAG 2.1)."""
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The ratios (1 + 0.05) / (L + 0.05) and (L + 0.05) / (0 + 0.05) are equal at L = 0.179.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
