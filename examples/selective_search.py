"""Selective search on one picture, drawn: python selective_search.py PICTURE OUT.png [single|fast|quality]"""

import sys
import time

from rcnnkit.drawing import draw_proposals
from rcnnkit.images import read_picture
from rcnnkit.proposals import selective_search

path, out, mode = (*sys.argv[1:], "fast")[:3]
picture = read_picture(path)  # (H, W, 3) uint8 RGB, upright
began = time.perf_counter()
proposals = selective_search(picture, mode, min_side=20)  # best first
seconds = time.perf_counter() - began
print(f"{len(proposals)} proposals in {seconds:.2f} s; the first three:")
print(proposals.boxes[:3])
draw_proposals(picture, proposals, count=30).save(out)
