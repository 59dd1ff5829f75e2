"""A canvas for a picture: lines and texts that grow with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from rcnnkit.boxes import clip
from rcnnkit.colours import Colour
from rcnnkit.drawing.fonts import Run, plain, runs
from rcnnkit.files import check_new
from rcnnkit.images import Picture, read_picture
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
        text = visible(" ".join(text.split()))
        width, height = self.image.size
        size = self.font_size
        margin = max(1, size // 6)
        while size > 6 and self._length(runs(text, size)) + 2 * margin > width:
            size -= 1
        parts = runs(text, size)
        # From the fonts and not from this text's letters, so that all plates are equally high.
        metrics = [font.getmetrics() for font in (plain(size), *(font for _, font in parts))]
        ascent, descent = (max(each) for each in zip(*metrics, strict=True))
        plate_width, plate_height = math.ceil(self._length(parts)) + 2 * margin, ascent + descent
        left = max(0, min(frame[0], width - plate_width))
        top = frame[1] - plate_height
        if top < 0:
            top = max(0, min(frame[1], height - plate_height))
        self.pencil.rectangle((left, top, left + plate_width - 1, top + plate_height - 1), fill=colour)
        x: float = left + margin
        for part, font in parts:
            self.pencil.text((x, top + ascent), part, fill=_readable_on(colour), font=font, anchor="ls")
            x += self.pencil.textlength(part, font)

    def _length(self, parts: Sequence[Run]) -> float:
        return sum(self.pencil.textlength(part, font) for part, font in parts)


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
