"""Pictures with what was annotated, found, missed and invented."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from rcnnkit.checking.drawings import STRONG
from rcnnkit.colours import HUES, Colour
from rcnnkit.data.records import Record
from rcnnkit.drawing.canvas import Canvas, Frame
from rcnnkit.evaluation.analysis import Analysis
from rcnnkit.images import Picture, read_picture
from rcnnkit.text import scored

# Bluish green, orange, vermilion: apart for any colour vision.
FOUND, MISSED, INVENTED = HUES[3], HUES[0], HUES[2]
MARGIN = 0.75  # of a box's longer side that is shown around it
LEAST = 96  # pixels of a cut-out's side, where the picture has them


def truth_and_found(analysis: Analysis, picture: int, threshold: float) -> tuple[Image.Image, Image.Image]:
    """A picture twice: with its objects, found or missed, and with the detections, right or invented."""
    record, names = analysis.dataset.records[picture], analysis.dataset.class_names
    targets, hits, detections, right = analysis.shown_in(picture, threshold)
    array = read_picture(record.path, record.size, checked=True)
    truth = _Drawn(array)
    labels = [names[label] for label in targets.labels.tolist()]
    truth.add(targets.boxes, [FOUND if hit else MISSED for hit in hits.tolist()])
    truth.write([label if not hit else "" for label, hit in zip(labels, hits.tolist(), strict=True)])
    answer = _Drawn(array)
    answer.add(detections.boxes, [FOUND if is_right else INVENTED for is_right in right.tolist()])
    texts = [scored(name, score) for name, score, _ in detections]
    answer.write([words if not is_right else "" for words, is_right in zip(texts, right.tolist(), strict=True)])
    return truth.canvas.image, answer.canvas.image


def side_by_side(pictures: Sequence[Image.Image], gap: int = 8) -> Image.Image:
    """In one row, on white."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row


def cut_out(record: Record, box: Sequence[float], object_box: Sequence[float] | None) -> Image.Image:
    """What a detection shows, in a strong frame, with its surroundings; and the object beside it in green."""
    array = read_picture(record.path, record.size, checked=True)
    height, width = array.shape[:2]
    x1, y1, x2, y2 = box
    side = max(x2 - x1, y2 - y1, 1) * (1 + 2 * MARGIN)
    side = max(side, LEAST)
    left, top = (int(max(0, (low + high - side) / 2)) for low, high in ((x1, x2), (y1, y2)))
    left, top = min(left, max(0, width - 1)), min(top, max(0, height - 1))
    right, bottom = min(width, int(left + side) + 1), min(height, int(top + side) + 1)
    part = array[top:bottom, left:right]
    drawing = _Drawn(part)
    shift = torch.tensor([left, top, left, top])
    if object_box is not None:
        drawing.add(torch.tensor([list(object_box)]) - shift, [FOUND])
    drawing.add(torch.tensor([list(box)]) - shift, [STRONG])
    return drawing.canvas.image


class _Drawn:
    """A picture on which boxes are drawn, then text above all of them."""

    def __init__(self, picture: Picture) -> None:
        self.canvas = Canvas(picture)
        self.frames: list[tuple[Frame | None, Colour]] = []

    def add(self, boxes: torch.Tensor, colours: Sequence[Colour]) -> None:
        frames = self.canvas.outline(boxes, colours, self.canvas.pixels(2))
        self.frames += zip(frames, colours, strict=True)

    def write(self, texts: Sequence[str]) -> None:
        frames, colours = zip(*self.frames, strict=True) if self.frames else ((), ())
        self.canvas.write_all(frames, texts, colours)
