"""A picture looked at several times: tile by tile, mirrored, at several scales; and what was found put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rcnnkit.boxes import clip, scale
from rcnnkit.decoding import differs
from rcnnkit.defaults import BATCH
from rcnnkit.images import Picture, Preprocessing, read_picture
from rcnnkit.merging import Look, merge
from rcnnkit.slides import Slide, open_slide
from rcnnkit.structures import Array, Detections, Proposals, Size
from rcnnkit.tiles import View, proposals_in

Large = Array | Tensor | Slide  # a picture that parts are cut from
# Detections in pictures, in their pixels. Their proposals, where there are any, and a factor of the network's input.
Detect = Callable[[Sequence[Picture], Sequence[Proposals] | None, float], list[Detections]]


def open_picture(picture: Picture, in_tiles: bool) -> Large:
    """What parts are cut from: for tiles a large TIFF file as it lies on disk, and any other picture as pixels.

    A tensor of floats stays one, as what a network sees of it is not rounded. Raises as `read_picture` and
    `open_slide`.
    """
    if in_tiles and isinstance(picture, Slide):
        return picture
    if in_tiles and isinstance(picture, str | os.PathLike):
        return open_file(picture)
    array = read_picture(picture)
    return picture.detach() if isinstance(picture, Tensor) and picture.is_floating_point() else array


def open_file(path: str | os.PathLike[str]) -> Array | Slide:
    """`open_picture` of a file, for tiles."""
    return open_slide(Path(path)) or read_picture(path)


def open_annotated(path: Path, size: Size) -> Array | Slide:
    """A picture of a data set, as of `open_picture`, upright as its annotations, with (height, width) `size`, have it.

    Raises as `read_picture` and `open_slide`.
    """
    slide = open_slide(path)
    if slide is None:
        return read_picture(path, size, checked=True)
    if slide.size != size:
        raise ValueError(differs(path, size, slide.size))
    return slide


def size_of(picture: Large) -> Size:
    """(height, width)."""
    if isinstance(picture, Slide):
        return picture.size
    height, width = picture.shape[-2:] if isinstance(picture, Tensor) else picture.shape[:2]
    return int(height), int(width)


def detect_in_views(
    picture: Large, proposals: Proposals | None, preprocessing: Preprocessing, detect: Detect
) -> Detections:
    """The objects in a picture, each once, of all looks that the settings ask for.

    A few parts are in memory at a time, and of a slide no more.

    Args:
        proposals: in the picture's pixels; those in a part are cut to it.
        preprocessing: says which views there are.
        detect: looks at some parts.
    """
    size = size_of(picture)
    looks: list[Look] = []
    for views in preprocessing.views(size):
        for start in range(0, len(views), BATCH):
            batch = views[start : start + BATCH]
            parts = [_show(picture, view, preprocessing) for view in batch]
            regions = None
            if proposals is not None:
                pairs = zip(batch, parts, strict=True)
                regions = [_regions(proposals, view, size_of(part)) for view, part in pairs]
            for view, part, found in zip(batch, parts, detect(parts, regions, views[0].factor), strict=True):
                looks.append(Look(view.part, _placed(found.to("cpu"), view, size_of(part))))
    if isinstance(picture, Slide):
        picture.close()
    return merge(looks, size, preprocessing)


def _show(picture: Large, view: View, preprocessing: Preprocessing) -> Array | Tensor:
    """The pixels of a view."""
    x1, y1, x2, y2 = view.part
    part: Array | Tensor
    if isinstance(picture, Slide):
        size = y2 - y1, x2 - x1
        if size == preprocessing.part_size(size):
            part = picture.cut(view.part)
        else:  # the whole of it, of twice the network's pixels, so that resizing costs nothing
            wanted = preprocessing.resized(size, 2 * view.factor)
            part = picture.overview((min(size[0], wanted[0]), min(size[1], wanted[1])))
    else:
        part = picture[..., y1:y2, x1:x2] if isinstance(picture, Tensor) else picture[y1:y2, x1:x2]
    if not view.mirrored:
        return part
    return part.flip(-1) if isinstance(part, Tensor) else np.ascontiguousarray(part[:, ::-1])


def _regions(proposals: Proposals, view: View, shown_size: Size) -> Proposals:
    """The proposals as a view of (height, width) `shown_size` has them."""
    inside, (x1, y1, x2, y2) = proposals_in(proposals, view.part), view.part
    boxes = scale(inside.boxes, (y2 - y1, x2 - x1), shown_size)
    return replace(inside, boxes=_mirrored(boxes, shown_size[1]) if view.mirrored else boxes)


def _placed(detections: Detections, view: View, shown_size: Size) -> Detections:
    """What was found in a view of (height, width) `shown_size`, in the pixels of the picture."""
    x1, y1, x2, y2 = view.part
    boxes = _mirrored(detections.boxes, shown_size[1]) if view.mirrored else detections.boxes
    size = y2 - y1, x2 - x1
    if shown_size != size:
        boxes = clip(scale(boxes, shown_size, size), size)
    return replace(detections, boxes=boxes + torch.tensor([x1, y1] * 2, dtype=boxes.dtype))


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """(N, 4) boxes of a picture that is mirrored, left to right."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
