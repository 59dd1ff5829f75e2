"""Detections and proposals drawn on their picture."""

from __future__ import annotations

import torch
from PIL import Image

from rcnnkit.boxes import iou
from rcnnkit.colours import HUES, class_colour
from rcnnkit.drawing.canvas import Canvas
from rcnnkit.images import Picture
from rcnnkit.structures import Detections, Proposals, Targets
from rcnnkit.text import scored


def draw(picture: Picture, detections: Detections, *, min_score: float = 0.5) -> Image.Image:
    """A copy of the picture with a box, a name or phrase and a score for each detection.

    Lines and text grow with the picture. Better detections lie above worse ones, and text above
    every box; a text that would lie over another moves where there is room. A box too small for
    its own outline is framed from outside, so that the object stays visible. A box outside the
    picture is not drawn; one that reaches over the edge is cut.

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
    canvas = Canvas(picture)
    detections = detections.to("cpu").above(min_score)
    detections = detections[torch.argsort(detections.scores, stable=True)]  # the best comes last, on top
    # Phrases are one class; each has the colour of its box.
    kinds = range(len(detections) - 1, -1, -1) if detections.phrases else detections.labels.tolist()
    colours = [class_colour(kind) for kind in kinds]
    frames = canvas.outline(detections.boxes, colours, canvas.pixels(2))
    canvas.write_all(frames, [scored(name, score) for name, score, _ in detections], colours)
    return canvas.image


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
    canvas = Canvas(picture)
    thin = canvas.pixels(1)
    boxes = proposals.boxes.cpu()
    if targets is None:
        boxes = boxes[: 50 if count is None else count].flip(0)  # the best comes last, on top
        colours = [class_colour(rank) for rank in reversed(range(len(boxes)))]
        canvas.outline(boxes, colours, thin)
        return canvas.image
    boxes, objects = boxes[:count], targets.to("cpu")
    objects = objects[~(objects.difficult | objects.crowd)]
    none = boxes.new_zeros(1, len(objects))  # so that there is a best one where there are no proposals
    overlaps, best = torch.cat([none, iou(boxes, objects.boxes)]).max(dim=0)
    boxes = torch.cat([boxes.new_zeros(1, 4), boxes])[best]
    colours = [HUES[3] if overlap > 0.5 else HUES[2] for overlap in overlaps.tolist()]
    white = [(255, 255, 255)] * len(objects)
    places = canvas.outline(objects.boxes, white, thin)
    frames = canvas.outline(boxes, colours, 2 * thin)
    said = [frame or place for frame, place in zip(frames, places, strict=True)]  # by the object if it has no proposal
    canvas.write_all(said, [f"{overlap:.2f}" for overlap in overlaps.tolist()], colours)
    return canvas.image
