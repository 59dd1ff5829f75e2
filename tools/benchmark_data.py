"""Time and memory of reading large data, on made annotations of COCO's size or any other.

`python tools/benchmark_data.py` makes a file in COCO's format with as many pictures and boxes as COCO 2017's training
set, and reads it twice, in processes of their own: first with an empty cache, then with what the first one left there.
Pictures are hard links to a few small JPEGs, so that a million take no space; `--no-pictures` takes sizes on trust.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measured import write

from rcnnkit.data.cache import cache_folder
from rcnnkit.data.loading import Pictures, draws, load_batches
from rcnnkit.data.reading import read_data
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.images import Preprocessing
from rcnnkit.processes import map_ahead

PICTURES, BOXES, CLASSES = 118_287, 860_001, 80  # COCO 2017
SIZE = (48, 64)
LINKS = 20_000  # to one file; file systems allow 65,000
MB = 2**20


def make(folder: Path, pictures: int, boxes: int, polygons: bool, files: bool) -> None:
    """ROOT/train2017 with pictures and ROOT/annotations/instances_train2017.json."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    height, width = SIZE
    picture = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    for number in range(pictures if files else 1):
        path = folder / "train2017" / f"{number:012d}.jpg"
        if number % LINKS == 0:
            cv2.imwrite(str(path), picture)
            first = path
        else:
            path.hardlink_to(first)
    where = rng.integers(0, pictures, boxes)
    starts, sides = rng.random((boxes, 2)) * (width // 2, height // 2), 2 + rng.random((boxes, 2)) * 20
    with (folder / "annotations" / "instances_train2017.json").open("w") as file:
        file.write('{"info": {"description": "made"}, "licenses": [], "images": [')
        for number in range(pictures):
            name = f"{number:012d}.jpg"
            about = {"license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}"}
            entry = about | {"height": height, "width": width, "date_captured": "2013-11-14 11:18:45", "id": number}
            file.write(", " * (number > 0) + json.dumps(entry))
        file.write('], "annotations": [')
        for number, (image, start, side) in enumerate(zip(where.tolist(), starts, sides, strict=True)):
            (x, y), (w, h) = (np.round(each, 2).tolist() for each in (start, side))
            corners = [round(v, 2) for i in range(20) for v in (x + w * i / 20, y + h * (i % 2))] if polygons else []
            entry = {"segmentation": [corners], "area": w * h, "iscrowd": 0, "image_id": image, "bbox": [x, y, w, h]}
            file.write(", " * (number > 0) + json.dumps(entry | {"category_id": number % CLASSES + 1, "id": number}))
        categories = [{"supercategory": "made", "id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def memory() -> dict[str, float]:
    """Of this process: what is its own alone, and the greatest of all its memory so far; MB."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    own = int(status["RssAnon"].split()[0]) / 1024
    return {"own": own, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def read(folder: Path, check_pictures: bool) -> dict[str, float]:
    """One start of a training, as far as data are concerned."""
    before, began = memory(), time.perf_counter()
    data = read_data(folder, "train", check_pictures=check_pictures)
    seconds, after = time.perf_counter() - began, memory()
    began = time.perf_counter()
    small = Preprocessing(short_side=SIZE[0], long_side=SIZE[1])
    augmentation = Augmentation(AugmentSettings(), small)
    first = None
    if check_pictures:
        batches = load_batches(Pictures(data.records, augmentation, False), draws(data.records, 16, 0), workers=1)
        with closing(batches):
            next(batches)
        first = time.perf_counter() - began

    def epoch(_: int) -> tuple[float, float]:
        """In a process of its own, which shares all it does not change: what an epoch adds to its memory."""
        start, began = memory()["own"], time.perf_counter()
        for index in np.random.default_rng(0).permutation(len(data)).tolist():
            assert data.records[index].size == SIZE
        return memory()["own"] - start, time.perf_counter() - began

    with closing(map_ahead(epoch, iter([0]), 1, "reads records", "")) as answers:
        growth, passed = next(answers)
    return {
        "seconds": seconds,
        "peak_mb": after["peak"],
        "imports_mb": before["peak"],
        "held_mb": after["own"] - before["own"],
        "first_batch_seconds": first,
        "worker_growth_mb": growth,
        "epoch_seconds": passed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--polygons", action="store_true", help="with polygons of 20 corners, 450 MB in all")
    parser.add_argument("--no-pictures", action="store_true", help="make no picture files, and check none")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)  # what the processes do that are measured
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read, not options.no_pictures)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "data")
        make(data, options.pictures, options.boxes, options.polygons, not options.no_pictures)
        size = (data / "annotations" / "instances_train2017.json").stat().st_size / MB
        print(f"{options.pictures:,} pictures, {options.boxes:,} boxes, {size:,.0f} MB of JSON")
        given = ["--no-pictures"] if options.no_pictures else []
        environment = os.environ | {"RCNNKIT_CACHE": str(Path(place, "cache"))}
        for start in ("first", "later"):
            command = [sys.executable, __file__, "--read", str(data), *given]
            found = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
            millions = options.boxes / 1e6
            rows.append({"start": start} | found)
            print(
                f"{start:>5} start: {found['seconds']:.1f} s ({found['seconds'] / millions:.1f} a million boxes), peak"
                f" {found['peak_mb']:,.0f} MB ({(found['peak_mb'] - found['imports_mb']) / millions:,.0f} a million"
                f" boxes above the {found['imports_mb']:,.0f} of imports), {found['held_mb']:,.0f} MB held; first batch"
                f" {found['first_batch_seconds'] or 0:.1f} s later; a worker grows by {found['worker_growth_mb']:,.0f}"
                f" MB in an epoch, whose records take {found['epoch_seconds']:.1f} s"
            )
        os.environ["RCNNKIT_CACHE"] = environment["RCNNKIT_CACHE"]
        kept = sum(file.stat().st_size for file in (cache_folder() or data).rglob("*") if file.is_file()) / MB
        print(f"the cache takes {kept:,.0f} MB")
    if options.json:
        write(options.json, rows, pictures=options.pictures, boxes=options.boxes, json_mb=size, cache_mb=kept)


if __name__ == "__main__":
    main()
