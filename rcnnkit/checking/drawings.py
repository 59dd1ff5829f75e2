"""Pictures with their objects, small enough for a page."""

from __future__ import annotations

import io

import torch
from PIL import Image

from rcnnkit.colours import class_colour
from rcnnkit.data.checks import Box
from rcnnkit.data.records import Record
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.images import read_picture

WIDEST = 480  # pixels of a side
QUALITY = 80  # of the JPEG
STRONG = (255, 0, 80)  # the frame of the object in question, a colour that no class has


def drawn(record: Record, box: Box | None) -> bytes:
    """A picture as a JPEG, with its objects framed in the colours of their classes, and one box in a strong frame."""
    canvas = Canvas(read_picture(record.path, record.size, checked=True))
    boxes = record.targets.boxes
    canvas.outline(boxes, [class_colour(label) for label in record.targets.labels.tolist()], canvas.pixels(2))
    if box is not None:
        canvas.outline(torch.tensor([box]), [STRONG], canvas.pixels(5))
    return small_jpeg(canvas.image)


def small_jpeg(picture: Image.Image, widest: int = WIDEST) -> bytes:
    """A picture as a JPEG for a page; it is made no wider or higher than that many pixels."""
    picture.thumbnail((widest, widest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
