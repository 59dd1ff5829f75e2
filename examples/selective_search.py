"""Selective search on one picture, drawn: python selective_search.py PICTURE OUT.png"""

import sys
import time

from rcnnkit.drawing import draw_proposals
from rcnnkit.images import read_picture
from rcnnkit.proposals import selective_search

path, out = sys.argv[1:]
picture = read_picture(path)  # (H, W, 3) uint8 RGB, upright
began = time.perf_counter()
proposals = selective_search(picture, "fast", min_side=20)  # best first; "single" has fewer, "quality" more
seconds = time.perf_counter() - began
print(f"{len(proposals)} proposals in {seconds:.2f} s; the first three:")
print(proposals.boxes[:3])
draw_proposals(picture, proposals, count=30).save(out)
