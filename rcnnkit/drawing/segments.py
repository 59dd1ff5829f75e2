"""Segments of a picture."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image
from torch import Tensor

from rcnnkit.images import Picture, read_picture


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
    canvas = means[segments].reshape(pixels.shape)
    border = np.zeros(labels.shape, np.uint8)
    border[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    border[:-1] |= labels[1:] != labels[:-1]
    thickness = max(1, round(max(labels.shape) / 640))
    canvas[cv2.dilate(border, np.ones((thickness, thickness), np.uint8)) > 0] = 255
    return Image.fromarray(canvas)
