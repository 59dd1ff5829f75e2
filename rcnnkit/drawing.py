"""Detections, proposals and segments drawn on their picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rcnnkit.boxes import clip, iou
from rcnnkit.images import Picture, read_picture
from rcnnkit.structures import Detections, Proposals, Targets

Colour = tuple[int, int, int]
Frame = tuple[int, int, int, int]  # first and last pixel column and row: x, y, x, y

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
    colours = [class_colour(label) for label in shown.labels.tolist()]
    frames = _outline(pencil, canvas.size, shown.boxes, colours, thickness)
    texts = [f"{name} {score:.2f}" for name, score, _ in shown]
    for frame, colour, text in zip(frames, colours, texts, strict=True):
        if frame:
            _write(pencil, canvas.size, frame, text, colour, font_size)
    return canvas


def draw_proposals(
    picture: Picture, proposals: Proposals, *, count: int | None = None, targets: Targets | None = None
) -> Image.Image:
    """A copy of the picture with the best proposals; or, with `targets`, with how well they cover the objects.

    Then each object has a white frame, and the proposal that overlaps it most has a green one, or a vermilion one
    where their IoU is not above 0.5, and says the IoU. Difficult and crowd objects are left out, as in the recall.

    Args:
        picture: as `draw` takes it.
        proposals: in pixels of this picture, best first.
        count: how many of the first ones; by default 50, or all where there are `targets`.
        targets: the objects, in the same frame.

    Returns:
        A new RGB PIL picture, upright, of the same size.

    Raises:
        What `read_picture` raises for a picture that it cannot read.
    """
    canvas = Image.fromarray(read_picture(picture).copy())
    pencil = ImageDraw.Draw(canvas)
    longest = max(canvas.size)
    thin = max(1, round(longest / 640))
    boxes = proposals.boxes.cpu()
    if targets is None:
        boxes = boxes[: 50 if count is None else count].flip(0)  # the best comes last, on top
        colours = [class_colour(rank) for rank in reversed(range(len(boxes)))]
        _outline(pencil, canvas.size, boxes, colours, thin)
        return canvas
    boxes, objects = boxes[:count], targets.to("cpu")
    objects = objects[~(objects.difficult | objects.crowd)]
    none = boxes.new_zeros(1, len(objects))  # so that there is a best one where there are no proposals
    overlaps, best = torch.cat([none, iou(boxes, objects.boxes)]).max(dim=0)
    boxes = torch.cat([boxes.new_zeros(1, 4), boxes])[best]
    colours = [_HUES[3] if overlap > 0.5 else _HUES[2] for overlap in overlaps.tolist()]
    white = [(255, 255, 255)] * len(objects)
    places = _outline(pencil, canvas.size, objects.boxes, white, thin)
    frames = _outline(pencil, canvas.size, boxes, colours, 2 * thin)
    for frame, place, colour, overlap in zip(frames, places, colours, overlaps.tolist(), strict=True):
        if plate := frame or place:  # an object without any proposal says so itself
            _write(pencil, canvas.size, plate, f"{overlap:.2f}", colour, max(10, round(longest / 50)))
    return canvas


def draw_segments(picture: Picture, labels: np.ndarray | Tensor) -> Image.Image:
    """The segments of a picture, each filled with its mean colour, with thin lines between them.

    Args:
        picture: as `draw` takes it.
        labels: (H, W) integers; the pixels of a segment have the same one.

    Returns:
        A new RGB PIL picture, upright, of the same size.

    Raises:
        ValueError: `labels` are of another size than the picture, or not integers.
        What `read_picture` raises for a picture that it cannot read.
    """
    pixels = read_picture(picture)
    labels = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if labels.shape != pixels.shape[:2] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels {labels.shape} of type {labels.dtype} do not go with a picture {pixels.shape[1]} wide and"
            f" {pixels.shape[0]} high; give one integer for each pixel, (H, W)"
        )
    _, segments = np.unique(labels.ravel(), return_inverse=True)
    sums = np.stack([np.bincount(segments, weights=channel.ravel()) for channel in np.moveaxis(pixels, 2, 0)], axis=1)
    means = np.round(sums / np.bincount(segments)[:, None]).astype(np.uint8)
    drawn = means[segments].reshape(pixels.shape)
    border = np.zeros(labels.shape, np.uint8)
    border[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    border[:-1] |= labels[1:] != labels[:-1]
    thickness = max(1, round(max(labels.shape) / 640))
    drawn[cv2.dilate(border, np.ones((thickness, thickness), np.uint8)) > 0] = 255
    return Image.fromarray(drawn)


def _outline(
    pencil: ImageDraw.ImageDraw, size: tuple[int, int], boxes: Tensor, colours: Sequence[Colour], thickness: int
) -> list[Frame | None]:
    """Draws a frame for each box and says where, or None where there is nothing to see of it."""
    frames = [_frame(box, size, thickness) for box in clip(boxes, (size[1], size[0])).tolist()]
    for frame, colour in zip(frames, colours, strict=True):
        if frame:
            pencil.rectangle(frame, outline=colour, width=thickness)
    return frames


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


def _write(
    pencil: ImageDraw.ImageDraw,
    size: tuple[int, int],
    frame: Frame,
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
