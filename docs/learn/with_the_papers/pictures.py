"""What the notebooks of this folder share: pictures in rows, and boxes on them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

# Of a progress bar that nobody draws; the kernel of a notebook has no ipywidgets unless they are installed.
warnings.filterwarnings("ignore", message="IProgress not found")

# Colours that people with any colour vision tell apart (Okabe and Ito, 2002).
ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"
PALETTE = (ORANGE, SKY, GREEN, RED, PURPLE, BLUE)


def show(pictures: Sequence[Any], titles: Sequence[str] = (), columns: int = 4, side: float = 2.6) -> list[Axes]:
    """Draw pictures in rows, and return the axes, to draw on.

    Args:
        pictures: (H, W, 3) or (H, W) arrays, or PIL pictures.
        titles: one for each, or none at all.
        columns: pictures in a row.
        side: width of each, inches.
    """
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width = np.shape(pictures[0])[:2]
    size = (side * columns, (side * height / width + 0.3 * bool(titles)) * rows)
    _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    axes = list(grid.flat)
    for axis in axes:
        axis.axis("off")
    for axis, picture in zip(axes, pictures, strict=False):
        axis.imshow(picture, cmap="gray", interpolation="nearest")
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title, fontsize=9)
    plt.tight_layout(pad=0.4)
    return axes[: len(pictures)]


def frame(
    axis: Axes, boxes: Any, colours: str | Sequence[str] = GREEN, labels: Sequence[str] = (), **style: Any
) -> None:
    """Draw boxes (N, 4) xyxy on a picture: its pixels cover 0 to its width, and matplotlib begins at −0.5."""
    rows = [[float(value) for value in box] for box in boxes]
    colours = [colours] * len(rows) if isinstance(colours, str) else list(colours)
    for (x1, y1, x2, y2), colour in zip(rows, colours, strict=True):
        look = {"linewidth": 1.5, "edgecolor": colour, "clip_on": False} | style
        axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, **look))
    for (x1, y1, _, _), colour, label in zip(rows, colours, labels, strict=False):
        plate = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
        axis.text(x1 - 0.5, y1 - 0.5, label, fontsize=7, color="black", bbox=plate, verticalalignment="bottom")
