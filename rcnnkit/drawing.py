"""Detections drawn on their picture."""

from __future__ import annotations

import math

import torch
from PIL import Image, ImageDraw, ImageFont

from rcnnkit.boxes import clip
from rcnnkit.images import Picture, read_picture
from rcnnkit.structures import Detections

Colour = tuple[int, int, int]

# Seven hues that people with any colour vision tell apart: Okabe and Ito, "Color Universal
# Design" (2002), without black, ordered so that neighbours differ much.
_HUES: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermilion
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (204, 121, 167),  # reddish purple
)


def class_colour(label: int) -> Colour:
    """RGB, 0-255, of a class: always the same for a label; 21 colours, then from the start again.

    Seven hues, then each of them darker, then lighter. More cannot be told apart at a glance;
    the name beside the box does the rest.
    """
    shade, hue = divmod(label % (3 * len(_HUES)), len(_HUES))
    towards, share = ((0, 0.0), (0, 0.4), (255, 0.5))[shade]
    red, green, blue = (round(v + (towards - v) * share) for v in _HUES[hue])
    return red, green, blue


def draw(picture: Picture, detections: Detections, *, min_score: float = 0.5) -> Image.Image:
    """A copy of the picture with a box, a name and a score for each detection.

    Lines and text grow with the picture. Better detections lie above worse ones, and text above
    every box. A box too small for its own outline is framed from outside, so that the object
    stays visible. A box outside the picture is not drawn; one that reaches over the edge is cut.

    Args:
        picture: a path, a PIL picture, or an RGB array or tensor, as `read_picture` takes it;
            never modified.
        detections: boxes in pixels of this picture.
        min_score: weaker detections are not drawn; `-math.inf` draws all. R-CNN's scores are
            SVM margins without bounds, for which 0.5 is a strict choice.

    Returns:
        A new RGB PIL picture, upright, of the same size.

    Raises:
        What `read_picture` raises for a picture that it cannot read.
    """
    canvas = Image.fromarray(read_picture(picture).copy())
    pencil = ImageDraw.Draw(canvas)
    longest = max(canvas.size)
    thickness = max(1, round(longest / 320))  # 2 pixels at 640
    font_size = max(10, round(longest / 50))  # 13 pixels at 640

    shown = detections.to("cpu").above(min_score)
    shown = shown[torch.argsort(shown.scores, stable=True)]  # the best comes last, on top
    boxes = clip(shown.boxes, (canvas.height, canvas.width)).tolist()
    frames = [_frame(box, canvas.size, thickness) for box in boxes]
    colours = [class_colour(label) for label in shown.labels.tolist()]
    for frame, colour in zip(frames, colours, strict=True):
        if frame:
            pencil.rectangle(frame, outline=colour, width=thickness)
    texts = [f"{name} {score:.2f}" for name, score, _ in shown]
    for frame, colour, text in zip(frames, colours, texts, strict=True):
        if frame:
            _write(pencil, canvas.size, frame, text, colour, font_size)
    return canvas


def _frame(box: list[float], size: tuple[int, int], thickness: int) -> tuple[int, int, int, int] | None:
    """First and last pixel column and row (x, y, x, y) of the frame of a clipped box; None for none."""
    if not (box[2] > box[0] and box[3] > box[1]):  # outside the picture, inverted or NaN
        return None
    # Continuous x covers the pixels from floor(x1) to ceil(x2) - 1.
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = math.ceil(box[2]) - 1, math.ceil(box[3]) - 1
    if min(right - left, bottom - top) < 4 * thickness:
        left, top, right, bottom = left - thickness, top - thickness, right + thickness, bottom + thickness
    width, height = size
    return max(left, 0), max(top, 0), min(right, width - 1), min(bottom, height - 1)


def _write(
    pencil: ImageDraw.ImageDraw,
    size: tuple[int, int],
    frame: tuple[int, int, int, int],
    text: str,
    colour: Colour,
    font_size: int,
) -> None:
    """The text on a plate of the class's colour: above the frame, or within it at the top of a picture."""
    margin = max(1, font_size // 6)
    font = ImageFont.load_default(font_size)
    while font_size > 6 and pencil.textlength(text, font) + 2 * margin > size[0]:
        font_size -= 1
        font = ImageFont.load_default(font_size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    # From the font and not from this text's letters, so that all plates are equally high.
    ascent, descent = font.getmetrics()
    width, height = math.ceil(pencil.textlength(text, font)) + 2 * margin, ascent + descent
    left = max(0, min(frame[0], size[0] - width))
    top = frame[1] - height if frame[1] >= height else max(0, min(frame[1], size[1] - height))
    pencil.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    pencil.text((left + margin, top), text, fill=_readable_on(colour), font=font)


def _readable_on(colour: Colour) -> Colour:
    """Black or white, whichever contrasts more (relative luminance, WCAG 2.1)."""
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The ratios (1 + 0.05) / (L + 0.05) and (L + 0.05) / (0 + 0.05) are equal at L = 0.179.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
