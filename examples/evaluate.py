"""How good a detector is on annotated pictures: python evaluate.py WEIGHTS DATA [SPLIT]

DATA is a Pascal VOC folder or a COCO .json file.
"""

import sys
from pathlib import Path

import rcnnkit
from rcnnkit.data.reading import read_data
from rcnnkit.evaluation.report import evaluate

weights, root, split = (*sys.argv[1:], "val")[:3]
detector = rcnnkit.load(weights)
result = evaluate(detector, read_data(Path(root), split))
print(f"{result.dataset}: AP {result.numbers['AP']:.3f}, AP50 {result.numbers['AP50']:.3f}, in COCO's way")
print(f"mean AP in Pascal VOC's way: {result.voc.mean_ap_area:.3f} (area), {result.voc.mean_ap_11:.3f} (11 points)")
for each in result.coco.classes:
    print(f"  {each.name}: AP {each.ap:.3f} of {each.objects} objects")
