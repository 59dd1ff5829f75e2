"""What is found, and what the networks see, as pictures."""

from rcnnkit.colours import class_colour
from rcnnkit.drawing.boxes import draw, draw_proposals
from rcnnkit.drawing.canvas import save_picture
from rcnnkit.drawing.deconvnet import Projection, deconvnet
from rcnnkit.drawing.occlusion import Occlusion, draw_occlusion, occlusion
from rcnnkit.drawing.segments import draw_segments
from rcnnkit.drawing.sheets import draw_sheet
from rcnnkit.drawing.strongest import strongest_examples
from rcnnkit.drawing.transformed import Look, draw_looks, looks

__all__ = [
    "Look",
    "Occlusion",
    "Projection",
    "class_colour",
    "deconvnet",
    "draw",
    "draw_looks",
    "draw_occlusion",
    "draw_proposals",
    "draw_segments",
    "draw_sheet",
    "looks",
    "occlusion",
    "save_picture",
    "strongest_examples",
]
