"""What is found, and what the networks see, as pictures."""

from rcnnkit.drawing.boxes import class_colour, draw, draw_proposals
from rcnnkit.drawing.deconvnet import Projection, deconvnet
from rcnnkit.drawing.segments import draw_segments
from rcnnkit.drawing.sheets import draw_sheet
from rcnnkit.drawing.strongest import strongest_examples

__all__ = [
    "Projection",
    "class_colour",
    "deconvnet",
    "draw",
    "draw_proposals",
    "draw_segments",
    "draw_sheet",
    "strongest_examples",
]
