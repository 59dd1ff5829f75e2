"""Sheets of what channels respond to (Zeiler and Fergus 2013, arXiv:1311.2901v3, figure 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rcnnkit.drawing.strongest import Example
from rcnnkit.images import Preprocessing

SIDE = 3  # a channel has two squares of SIDE × SIDE tiles: projections, and the patches that they belong to
TILE, GAP, MARGIN, LINE = 80, 2, 12, 20  # pixels: a tile, between two, around a block and its squares, a line of text
EMPTY = (235, 235, 235)


def draw_sheet(examples: Mapping[int, Sequence[Example]], layer: str, preprocessing: Preprocessing) -> Image.Image:
    """For each channel the projections of its examples, strongest first, row by row, and beside them their patches.

    Each projection has a contrast of its own: grey is 0, and its values are stretched until one in a hundred reaches
    black or full colour. Tiles without an example are left empty.

    Args:
        examples: of each channel, as `strongest_examples` gives them; the first nine are shown.
        layer: its name, for the titles.
        preprocessing: the detector's, which says what colours the network's pixels stand for.
    """
    square = SIDE * TILE + (SIDE - 1) * GAP
    width, height = 2 * square + 3 * MARGIN, LINE + square + 2 * MARGIN
    columns = max(1, math.ceil(math.sqrt(len(examples) * height / width)))  # a sheet wider than high
    rows = math.ceil(len(examples) / columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pencil, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for block, (channel, channel_examples) in enumerate(examples.items()):
        left, top = block % columns * width + MARGIN, block // columns * height + MARGIN
        strength = f"strongest {channel_examples[0].activation.value:.3g}" if channel_examples else "not active"
        pencil.text((left, top), f"{layer}, channel {channel}: {strength}", fill="black", font=font)
        for place in range(SIDE**2):
            y, x = top + LINE + place // SIDE * (TILE + GAP), left + place % SIDE * (TILE + GAP)
            if place < len(channel_examples):
                sheet.paste(_tile(_contrast(channel_examples[place].projection, preprocessing)), (x, y))
                sheet.paste(_tile(_colours(channel_examples[place].patch, preprocessing)), (x + square + MARGIN, y))
            else:
                for start in (x, x + square + MARGIN):
                    pencil.rectangle((start, y, start + TILE - 1, y + TILE - 1), fill=EMPTY)
    return sheet


def _colours(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(3, h, w) of the network's pixels → RGB in [0, 1]."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    return (pixels * std + mean).clamp(0, 1)


def _contrast(projection: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(3, h, w) in the units of the network's pixels → RGB in [0, 1], grey for 0."""
    change = projection * torch.tensor(preprocessing.std)[:, None, None]
    most = change.abs().flatten().quantile(0.99)
    return (0.5 + change / (2 * most + 1e-12)).clamp(0, 1)


def _tile(colours: Tensor) -> Image.Image:
    """(3, h, w) in [0, 1], as large as a tile lets it be, in its middle."""
    height, width = colours.shape[1:]
    factor = TILE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray((colours * 255).round().byte().permute(1, 2, 0).numpy()).resize(
        size, Image.Resampling.BILINEAR
    )
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    tile.paste(picture, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
