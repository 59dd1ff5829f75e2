"""Annotations in a format of your own: python own_data.py BOXES.csv PICTURES OUT.json

BOXES.csv has the lines file,x1,y1,x2,y2,class, in pixels. OUT.json is COCO's format, which `rcnnkit train` reads.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image

from rcnnkit.data.coco import write_coco
from rcnnkit.data.records import Dataset, Record
from rcnnkit.structures import Targets

table, pictures, out = map(Path, sys.argv[1:])
boxes, classes = defaultdict(list), defaultdict(list)
for file, *corners, name in csv.reader(table.open()):
    boxes[file].append([float(corner) for corner in corners])
    classes[file].append(name)
names = sorted({name for of_picture in classes.values() for name in of_picture})
records = []
for number, file in enumerate(boxes, start=1):
    width, height = Image.open(pictures / file).size
    targets = Targets(torch.tensor(boxes[file]), torch.tensor([names.index(name) for name in classes[file]]))
    records.append(Record(number, pictures / file, (height, width), targets))
write_coco(Dataset("mine", records, names, list(range(1, len(names) + 1))), out)
print(f"{len(records)} pictures with {', '.join(names)} in {out}")
