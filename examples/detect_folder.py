"""What is in the pictures of a folder and its sub-folders: python detect_folder.py WEIGHTS FOLDER OUT

OUT gets the pictures with their boxes, and detections.json in COCO's results format.
"""

import sys
from collections import Counter

import rcnnkit

weights, folder, out = sys.argv[1:]
detector = rcnnkit.load(weights)
names: Counter[str] = Counter()
for picture in rcnnkit.detect_files(detector, folder, out):
    if picture.detections is None:
        print(f"{picture.name}: {picture.error}")  # one that fails does not stop the others
    else:
        names.update(picture.detections.above(detector.min_score).names)
for name, number in names.most_common():
    print(f"{number:>6} {name}")
