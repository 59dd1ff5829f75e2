"""What is found, and what the networks see, as pictures."""

from rcnnkit.colours import class_colour
from rcnnkit.drawing.boxes import draw, draw_proposals
from rcnnkit.drawing.canvas import save_picture
from rcnnkit.drawing.deconvnet import Projection, deconvnet
from rcnnkit.drawing.occlusion import Occlusion, draw_occlusion, occlusion
from rcnnkit.drawing.segments import draw_segments
from rcnnkit.drawing.sheets import draw_sheet
from rcnnkit.drawing.strongest import strongest_examples

__all__ = [
    "Occlusion",
    "Projection",
    "class_colour",
    "deconvnet",
    "draw",
    "draw_occlusion",
    "draw_proposals",
    "draw_segments",
    "draw_sheet",
    "occlusion",
    "save_picture",
    "strongest_examples",
]
