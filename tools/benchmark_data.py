"""Time and memory of reading large data, on made annotations of COCO's size or any other.

`python tools/benchmark_data.py` makes files in COCO's format with as many pictures and boxes as COCO 2017's training
set, without and with polygons, and reads each twice, in processes of their own: first with an empty cache, then with
what the first one left there. Pictures are hard links to a few small JPEGs, so that a million take no space;
`--no-pictures` takes sizes on trust.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from measured import write

from rcnnkit.data.loading import Pictures, draws, load_batches
from rcnnkit.data.reading import read_data
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.images import Preprocessing
from rcnnkit.processes import map_ahead

PICTURES, BOXES, CLASSES = 118_287, 860_001, 80  # COCO 2017
SIZE = (48, 64)
LINKS = 20_000  # to one file, of which file systems allow 65,000; and annotations that are drawn at a time
MB = 2**20
KINDS = ("boxes", "polygons")
FIRST = ""  # the key of the column that names the rows


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
    names = (f"{number:012d}.jpg" for number in range(pictures))
    images = (
        f'{{"license": 3, "file_name": "{name}", "coco_url": "http://images.cocodataset.org/train2017/{name}", '
        f'"height": {height}, "width": {width}, "date_captured": "2013-11-14 11:18:45", "id": {number}}}'
        for number, name in enumerate(names)
    )
    categories = [{"supercategory": "made", "id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
    with (folder / "annotations" / "instances_train2017.json").open("w") as file:
        file.write('{"info": {"description": "made"}, "licenses": [], "images": [')
        write_entries(file, images)
        file.write('], "annotations": [')
        write_entries(file, made_annotations(rng, pictures, boxes, polygons))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def made_annotations(rng: np.random.Generator, pictures: int, boxes: int, polygons: bool) -> Iterator[str]:
    """In an order of pictures by chance, as COCO's are; with polygons of 20 corners, which nobody looks at."""
    height, width = SIZE
    corners = np.round(rng.random((1000, 40)) * min(SIZE), 2).tolist() if polygons else [[]]
    texts = [", ".join(map(str, each)) for each in corners]
    for start in range(0, boxes, LINKS):
        number = min(LINKS, boxes - start)
        where = rng.integers(0, pictures, number).tolist()
        starts, sides = rng.random((number, 2)) * (width // 2, height // 2), 2 + rng.random((number, 2)) * 20
        for i, image, (x, y), (w, h) in zip(range(number), where, starts.tolist(), sides.tolist(), strict=True):
            numbers = f'"area": {w * h:.2f}, "iscrowd": 0, "image_id": {image}, "category_id": {i % CLASSES + 1}'
            box = f'"bbox": [{x:.2f}, {y:.2f}, {w:.2f}, {h:.2f}], "id": {start + i}'
            yield f'{{"segmentation": [[{texts[i % len(texts)]}]], {numbers}, {box}}}'


def write_entries(file: TextIO, entries: Iterator[str]) -> None:
    file.write(next(entries))
    for entry in entries:
        file.write(", " + entry)


def memory() -> dict[str, float]:
    """Of this process: what is its own alone, and the greatest of all its memory so far; MB."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    own = int(status["RssAnon"].split()[0]) / 1024
    return {"own": own, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def processor() -> float:
    """Seconds that this process and those that it has waited for have computed."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def read(folder: Path, check_pictures: bool) -> dict[str, float]:
    """One start of a training, as far as data are concerned."""
    before, computed, began = memory(), processor(), time.perf_counter()
    data = read_data(folder, "train", check_pictures=check_pictures)
    seconds, computed, after = time.perf_counter() - began, processor() - computed, memory()
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
        "processor_seconds": computed,
        "peak_mb": after["peak"] - before["peak"],
        "imports_mb": before["peak"],
        "held_mb": max(0.0, after["own"] - before["own"]),
        **({} if first is None else {"first_batch_seconds": first}),
        "worker_growth_mb": max(0.0, growth),
        "epoch_seconds": passed,
    }


def measure(place: Path, name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both starts with one file, which is made for that and removed."""
    data = place / "data"
    make(data, options.pictures, options.boxes, name == "polygons", not options.no_pictures)
    size = (data / "annotations" / "instances_train2017.json").stat().st_size / MB
    print(f"{options.pictures:,} pictures, {options.boxes:,} {name}, {size:,.0f} MB of JSON")
    environment = os.environ | {"RCNNKIT_CACHE": str(place / "cache")}
    rows, millions = [], options.boxes / 1e6
    for start in ("first", "later"):
        command = [sys.executable, __file__, "--read", str(data), *["--no-pictures"] * options.no_pictures]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
        each = {f"{key}_a_million": found[key] / millions for key in ("seconds", "processor_seconds", "peak_mb")}
        about = {"pictures": options.pictures, "boxes": options.boxes, "json_mb": size}
        rows.append({FIRST: f"{start} start, {name}"} | found | each | about)
        print(
            f"{start:>5} start: {found['seconds']:.1f} s, {found['processor_seconds']:.1f} s of processor time"
            f" ({each['processor_seconds_a_million']:.1f} s a million boxes); peak {found['peak_mb']:,.0f} MB"
            f" ({each['peak_mb_a_million']:,.0f} a million boxes) above the {found['imports_mb']:,.0f} of libraries,"
            f" {found['held_mb']:,.0f} MB held; first batch {found.get('first_batch_seconds', 0):.1f} s later; a worker"
            f" grows by {found['worker_growth_mb']:,.0f} MB in an epoch, whose records take"
            f" {found['epoch_seconds']:.1f} s"
        )
    kept = sum(file.stat().st_size for file in (place / "cache").rglob("*") if file.is_file()) / MB
    print(f"the cache takes {kept:,.0f} MB")
    for row in rows:
        row["cache_mb"] = kept
    shutil.rmtree(data)
    shutil.rmtree(place / "cache")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--boxes", type=int, help="by default as many a picture as COCO has")
    parser.add_argument("--only", choices=KINDS, help="of the two files one; polygons have 20 corners each")
    parser.add_argument("--no-pictures", action="store_true", help="make no picture files, and check none")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)  # what the processes do that are measured
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read, not options.no_pictures)))
        return
    options.boxes = options.boxes or round(options.pictures * BOXES / PICTURES)
    rows: list[dict[str, Any]] = []
    for name in [options.only] if options.only else KINDS:
        with tempfile.TemporaryDirectory() as place:
            rows += measure(Path(place), name, options)
    if options.json:
        write(options.json, rows, pictures=options.pictures, boxes=options.boxes)


if __name__ == "__main__":
    main()
