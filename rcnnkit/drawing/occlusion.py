"""Which part of a picture a score depends on (Zeiler and Fergus 2013, arXiv:1311.2901v3, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rcnnkit.colours import HUES
from rcnnkit.defaults import OCCLUDED
from rcnnkit.detectors.detector import Detector, with_proposals
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.images import Picture, read_picture
from rcnnkit.progress import Report, reported, silent
from rcnnkit.settings import closest_name
from rcnnkit.structures import Array, Proposals
from rcnnkit.text import scored

OPACITY = 0.85  # of the most heat
SMALLEST = 400  # pixels; pictures whose longer side has fewer are drawn larger

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True, slots=True, eq=False)
class Occlusion:
    """The scores of one class at one box of a picture, with a grey square here and there."""

    picture: Array  # (H, W, 3) uint8 RGB
    box: Corners  # in its pixels
    name: str  # of the class
    score: float  # without the square
    # (rows, columns) float32: with the square in the middle of each stride × stride pixels, from the top left on. At
    # the right and bottom the last ones may reach over the picture's edge.
    scores: Array
    square: int  # sides of the square, pixels
    stride: int


def occlusion(
    detector: Detector,
    picture: Picture,
    box: Sequence[float],
    name: str | None = None,
    *,
    square: int = 0,
    stride: int = 0,
    batch: int = OCCLUDED,
    progress: Report = silent,
) -> Occlusion:
    """Slides a grey square over a picture and records what score the class still gets at the box.

    The box itself is scored, as if it had been proposed: by an R-CNN through its window, by the others through pooling
    and head. So the score depends on pixels alone. A Faster R-CNN's own proposals would move or vanish as the square
    does, and the score of whichever is nearest the box would tell of them too.

    Args:
        detector: in eval mode.
        picture: as `read_picture` takes it.
        box: xyxy in its pixels, such as a detection's.
        name: of a class; by default the one that scores highest at the box.
        square: its sides, pixels; 0: a third of the box's, or a sixteenth of the picture's longer side if that is more.
            Grey is the mean that the preprocessing subtracts.
        stride: from one place to the next, pixels; 0: half the square.
        batch: pictures at a time.
        progress: called with what is done so far.

    Raises:
        RuntimeError: the detector is in training mode.
        ValueError: a box that is empty or not in the picture; a class that the detector does not know; a negative
            size.
        FileNotFoundError, ValueError: the picture cannot be read.
    """
    if detector.training:
        raise RuntimeError("the detector is in training mode; call detector.eval() first")
    if min(square, stride) < 0 or batch < 1:
        raise ValueError(
            f"square = {square}, stride = {stride}, batch = {batch}; square and stride must be 0 pixels or more, and"
            " batch 1 picture or more"
        )
    names = detector.class_names
    if name is not None and name not in names:
        close = closest_name(name, names)
        hint = f"did you mean {close}? It knows" if close else "it knows"
        raise ValueError(f"the detector knows no class {name!r}; {hint} {', '.join(names)}")
    plain = read_picture(picture)
    height, width = plain.shape[:2]
    x1, y1, x2, y2 = box = _checked(box, width, height)
    square = square or max(1, round(max(math.sqrt((x2 - x1) * (y2 - y1)) / 3, max(height, width) / 16)))
    stride = min(stride or max(1, square // 2), max(height, width))

    (unhidden,) = _scores(detector, [plain], box)
    label = int(unhidden.argmax()) if name is None else names.index(name)
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    grey = np.round(np.array(detector.preprocessing.mean) * 255).astype(np.uint8)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    scores = np.zeros((rows, columns), np.float32)
    parts = [places[i : i + batch] for i in range(0, len(places), batch)]
    for part in reported(parts, "squares", progress):
        hidden = []
        for row, column in part:
            top, left = (round((at + 0.5) * stride - square / 2) for at in (row, column))
            hidden.append(plain.copy())
            hidden[-1][max(0, top) : max(0, top + square), max(0, left) : max(0, left + square)] = grey
        for (row, column), score in zip(part, _scores(detector, hidden, box)[:, label].tolist(), strict=True):
            scores[row, column] = score
    return Occlusion(plain, box, names[label], float(unhidden[label]), scores, square, stride)


def draw_occlusion(occlusion: Occlusion) -> Image.Image:
    """The picture with the box; and in grey, with heat where the square takes most of the score.

    The bar beside them says which score with the square a colour stands for: from that without it, which has no heat,
    to the lowest. Where the square raises the score there is no heat either. Small pictures are drawn larger.
    """
    lowest = min(occlusion.score, float(occlusion.scores.min()))
    losses = (occlusion.score - occlusion.scores).clip(min=0) / max(occlusion.score - lowest, 1e-12)
    height, width = occlusion.picture.shape[:2]
    rows, columns = occlusion.scores.shape
    heat = cv2.resize(losses, (columns * occlusion.stride, rows * occlusion.stride), interpolation=cv2.INTER_LINEAR)
    factor = max(1, math.ceil(SMALLEST / max(height, width)))
    heated = _heated(occlusion.picture.mean(axis=2), heat[:height, :width])
    panels = [Canvas(pixels.repeat(factor, axis=0).repeat(factor, axis=1)) for pixels in (occlusion.picture, heated)]
    for canvas in panels:
        (frame,) = canvas.outline(torch.tensor([occlusion.box]) * factor, [HUES[1]], canvas.pixels(2))
    assert frame  # the box has pixels in the picture
    panels[0].write(frame, scored(occlusion.name, occlusion.score), HUES[1])
    panels[1].write((0, 0, 0, 0), f"with a grey square of {occlusion.square} pixels there", (255, 255, 255))
    margin = panels[0].font_size
    font = ImageFont.load_default(margin)
    width, height = panels[0].image.size
    labels = [f"{score:.2f}" for score in np.linspace(lowest, occlusion.score, 5)]
    room = max(math.ceil(font.getlength(label)) for label in labels)
    sheet = Image.new("RGB", (2 * width + room + 4 * margin, height + 2 * margin), "white")
    for number, canvas in enumerate(panels):
        sheet.paste(canvas.image, (number * (width + margin), margin))
    bar = _heated(np.full((height, margin), 128.0), np.linspace(1, 0, height)[:, None].repeat(margin, axis=1))
    left = 2 * (width + margin)
    sheet.paste(Image.fromarray(bar), (left, margin))
    pencil = ImageDraw.Draw(sheet)
    for label, y in zip(labels, np.linspace(margin, margin + height - 1, 5), strict=True):
        pencil.text((left + margin * 1.5, y), label, fill="black", font=font, anchor="lm")
    return sheet


def _heated(grey: Array, heat: Array) -> Array:
    """(H, W) grey 0-255 under (H, W) heat 0-1, more and more of it → (H, W, 3) uint8."""
    colour = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = OPACITY * heat[:, :, None]
    return np.round(grey[:, :, None] * (1 - share) + colour * share).astype(np.uint8)


@torch.inference_mode()
def _scores(detector: Detector, pictures: Sequence[Array], box: Corners) -> Tensor:
    """(B, K): what each class scores at one and the same box of each picture, on the CPU."""
    proposal = Proposals(torch.tensor([box]), torch.ones(1))
    images = detector.preprocessing(pictures, detector.device)
    images = with_proposals(images, [proposal] * len(pictures))
    return detector.score_proposals(images).cpu()


def _checked(box: Sequence[float], width: int, height: int) -> Corners:
    """The box, cut to the picture. Raises ValueError for one that has nothing in it or reaches out by over a pixel."""
    corners = np.array(box, dtype=float)
    x1, y1, x2, y2 = cut = corners.clip(0, [width, height, width, height])
    if not (x1 < x2 and y1 < y2 and np.abs(corners - cut).max() <= 1):  # NaN is not either
        raise ValueError(
            f"box {corners.tolist()} does not lie in the picture, which is {width} wide and {height} high; give x1, y1,"
            " x2 and y2 in its pixels, the smaller ones first"
        )
    return float(x1), float(y1), float(x2), float(y2)
