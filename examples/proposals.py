"""How many objects each way of proposing regions covers: python proposals.py DATA [SPLIT]

DATA is a Pascal VOC folder or a COCO .json file. Recall is the share of objects that a proposal overlaps by IoU > 0.5.
"""

import sys
from pathlib import Path

from rcnnkit.data.reading import read_data
from rcnnkit.images import read_picture
from rcnnkit.proposals.methods import SelectiveSearch, SlidingWindows
from rcnnkit.proposals.recall import coverage

data = read_data(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val")
targets = [record.targets for record in data.records]
counts = [10, 100, 1000]
print(f"recall with the first {counts} proposals of {len(data)} pictures")
for method in (SelectiveSearch(), SlidingWindows()):
    found = (method.find(read_picture(record.path)) for record in data.records)
    covered = coverage(found, targets, data.class_names, counts)
    print(f"{method.name:>16}", *(f"{covered.recall(count):.3f}" for count in counts))
