"""Which of two detectors is faster on your pictures: python benchmark.py WEIGHTS WEIGHTS FOLDER

They take turns, so that other work on the machine slows both. `rcnnkit benchmark` measures stage by stage.
"""

import sys
import time
from pathlib import Path
from statistics import median

import rcnnkit
from rcnnkit.data.checks import pictures_in
from rcnnkit.images import read_picture

*files, folder = sys.argv[1:]
detectors = {file: rcnnkit.load(file) for file in files}
pictures = [read_picture(path) for path in pictures_in([Path(folder)])[:20]]
seconds: dict[str, list[float]] = {file: [] for file in files}
for turn, picture in enumerate([pictures[0], *pictures]):
    for file, detector in detectors.items():
        began = time.perf_counter()
        detector(picture).boxes.cpu()  # which waits for a GPU
        if turn:  # the first call pays for the start
            seconds[file].append(time.perf_counter() - began)
for file in sorted(files, key=lambda file: median(seconds[file])):
    print(f"{median(seconds[file]):.4f} s a picture, median of {len(pictures)}: {file}")
