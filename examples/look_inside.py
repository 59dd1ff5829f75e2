"""Which part of a picture a detection depends on: python look_inside.py WEIGHTS PICTURE OUT.png [STRIDE]

A grey square slides over the picture; where it takes most of the score there is heat (Zeiler and Fergus, 4.2).
It moves by STRIDE pixels: more is faster, and coarser.
"""

import sys

import rcnnkit
from rcnnkit.drawing import draw_occlusion, occlusion

weights, picture, out, stride = (*sys.argv[1:], "0")[:4]  # 0: as the picture's size suggests
detector = rcnnkit.load(weights)
found = detector(picture)
if not len(found):
    sys.exit(f"nothing was found in {picture}")
name, score, box = found[0]  # the best
seen = occlusion(detector, picture, box, name, stride=int(stride))
print(f"{name} scores {seen.score:.3f} at its box, and {seen.scores.min():.3f} with the square at its worst place")
draw_occlusion(seen).save(out)
