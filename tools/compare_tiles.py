"""Large pictures of small digits: looked at as a whole, shrunk, and in tiles.

    python tools/compare_tiles.py WEIGHTS [--side 4000] [--tile 256] [--iterations 200] [--pictures 2] [--small]
                                  [--json FILE]

WEIGHTS is rcnnkit-demo/faster-rcnn/best.safetensors, which `rcnnkit demo` leaves: a detector that knows digits. Here,
digits of 12 to 40 pixels lie on pictures of SIDE × SIDE pixels, 100 in each million pixels. The detector is trained on
for a while on tiles, and as long on the same pictures as a whole, shrunk to the same input. The table shows for each
way to detect, at scores of 0.5 or more:

    recall     objects that are found, at an IoU of 0.5 and with their class
    seams      the same of objects that an edge of a tile crosses
    precision  detections that are an object's first
    twice      detections of an object that a better one has found; each is one too many
    seconds    for a picture

A second table shows how memory grows with the picture: the MB that detecting takes beside the detector and the picture,
each measured in a process of its own, in tiles, as a whole, and in tiles of a TIFF file that are read one by one. On
one core, all of it takes about ten minutes; --small takes one.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measured
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rcnnkit.boxes import iou
from rcnnkit.config_files import check_settings
from rcnnkit.data.coco import write_coco
from rcnnkit.data.digits import (
    CLASSES,
    TURN,
    VISIBLE,
    Style,
    background,
    colour_against,
    ink_of,
    scan_indices,
    tight_box,
)
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.demo import settings_for
from rcnnkit.detectors.detector import Detector
from rcnnkit.images import read_picture
from rcnnkit.memory import forget_peak, held_memory, peak_memory
from rcnnkit.slides import Slide
from rcnnkit.structures import Array, Detections, Targets
from rcnnkit.tiles import ViewSettings
from rcnnkit.training.train import train
from rcnnkit.weights import load

SIDES = (12.0, 40.0)  # pixels of a digit's longer side
DENSITY = 100 / 1e6  # digits for each pixel
OVERLAP = 56  # pixels; a digit of 40 that is turned by 20 degrees is no larger
ENLARGED = 1.25  # how much larger the network sees the pixels of a tile
MIN_SCORE, MIN_IOU = 0.5, 0.5
BLOCK = 500  # pixels; backgrounds of so many a side lie beside each other
Rows = list[dict[str, Any]]


def draw_large(rng: np.random.Generator, scans: dict[int, list[int]], side: int) -> tuple[Array, Array, list[int]]:
    """A picture (side, side, 3) uint8, the boxes (N, 4) of its digits, which do not touch, and the digits."""
    canvas = np.empty((side, side, 3), np.uint8)
    for y in range(0, side, BLOCK):
        for x in range(0, side, BLOCK):
            place = canvas[y : y + BLOCK, x : x + BLOCK]
            drawn = background(rng, (BLOCK, BLOCK)) + rng.normal(0, 3, (BLOCK, BLOCK, 3))
            place[:] = drawn.clip(0, 255).round()[: place.shape[0], : place.shape[1]]
    taken = np.zeros((side, side), bool)
    boxes: list[tuple[int, int, int, int]] = []
    digits: list[int] = []
    wanted = round(DENSITY * side**2)
    for _ in range(20 * wanted):
        if len(boxes) == wanted:
            break
        digit = int(rng.choice(list(scans)))
        length = float(np.exp(rng.uniform(*np.log(SIDES))))
        opacity = ink_of(int(rng.choice(scans[digit])), length, rng.uniform(-TURN, TURN))
        height, width = opacity.shape
        y, x = (int(rng.integers(0, side - each + 1)) for each in opacity.shape)
        under = canvas[y : y + height, x : x + width]
        _, colour = colour_against(rng, under.reshape(-1, 3).astype(np.float64), Style())
        if taken[max(0, y - 2) : y + height + 2, max(0, x - 2) : x + width + 2].any() or colour is None:
            continue
        under[:] = (under + opacity[..., None] * (colour - under)).clip(0, 255).round()
        taken[y : y + height, x : x + width] = True
        x1, y1, x2, y2 = tight_box(opacity > VISIBLE)
        boxes.append((x + x1, y + y1, x + x2, y + y2))
        digits.append(digit)
    return canvas, np.array(boxes, np.float32), digits


def write_pictures(root: Path, split: str, side: int, pictures: int) -> Dataset:
    """A split of large pictures, in COCO's format."""
    records = []
    (root / split).mkdir(parents=True)
    for number in range(pictures):
        rng = np.random.default_rng((number, split == "val"))
        pixels, boxes, digits = draw_large(rng, scan_indices(split), side)
        path = root / split / f"{number:03d}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
        labels = torch.tensor([CLASSES.index(digit) for digit in digits])
        records.append(Record(number + 1, path, (side, side), Targets(torch.from_numpy(boxes), labels)))
    data = Dataset(split, records, [str(digit) for digit in CLASSES], list(range(1, len(CLASSES) + 1)))
    write_coco(data, root / f"{split}.json")
    return data


def trained(start: Path, folder: Path, tile: int, size: int, iterations: int) -> Path:
    """Weights that were trained on tiles, or with `tile` 0 on whole pictures, of `size` pixels at the network."""
    values = settings_for("faster-rcnn", folder, "auto")
    data = folder / "data"
    values["data"] = {"root": str(data), "train": "train.json", "images": str(data / "train"), "val": ""}
    values["input"] = {"short_side": size, "long_side": size, "tile": tile, "tile_overlap": OVERLAP}
    values["train"] |= {"iterations": iterations, "warmup": min(100, iterations // 4), "init": str(start)}
    values["train"].pop("save_every")
    out = folder / ("tiles" if tile else "whole")
    return train(check_settings(values, "compare_tiles"), out, console=Console(quiet=True))


def at_seams(boxes: Tensor, side: int, tiles: ViewSettings) -> Tensor:
    """(N,) bool: which boxes an edge of a tile crosses."""
    parts = torch.tensor(tiles.parts((side, side)))
    crossed = torch.zeros(len(boxes), dtype=torch.bool)
    for axis in (0, 1):
        edges = torch.cat([parts[:, axis], parts[:, axis + 2]]).unique()
        edges = edges[(edges > 0) & (edges < side)]
        crossed |= ((boxes[:, axis, None] < edges) & (edges < boxes[:, axis + 2, None])).any(dim=1)
    return crossed


def judge(found: Detections, targets: Targets) -> tuple[Tensor, int]:
    """Which objects are found (N,), and how many detections are of an object that was found by a better one."""
    found = found.above(MIN_SCORE)
    overlaps = iou(found.boxes, targets.boxes) * (found.labels[:, None] == targets.labels)
    taken, twice = torch.zeros(len(targets), dtype=torch.bool), 0
    for row in overlaps:
        fits = row >= MIN_IOU
        free = torch.where(fits & ~taken, row, 0)
        if free.max() > 0:
            taken[free.argmax()] = True
        else:
            twice += bool(fits.any())
    return taken, twice


def with_settings(detector: Detector, **changes: Any) -> Detector:
    changed = copy.copy(detector)
    changed.preprocessing = detector.preprocessing.model_copy(update=changes)
    return changed


def compare(ways: dict[str, Detector], data: Dataset, tiles: ViewSettings) -> Rows:
    """A row for each way to detect."""
    rows = []
    for name, detector in ways.items():
        objects, seams, right, right_at_seams, twice, detections = 0, 0, 0, 0, 0, 0
        seconds = 0.0
        for record in data.records:
            picture, began = read_picture(record.path), time.perf_counter()
            found = detector(picture).to("cpu")
            seconds += time.perf_counter() - began
            taken, again = judge(found, record.targets)
            crossed = at_seams(record.targets.boxes, record.size[0], tiles)
            objects, seams = objects + len(taken), seams + int(crossed.sum())
            right, right_at_seams = right + int(taken.sum()), right_at_seams + int((taken & crossed).sum())
            twice, detections = twice + again, detections + len(found.above(MIN_SCORE))
        rows.append(
            {
                "": name,
                "recall": right / objects,
                "seams": right_at_seams / max(1, seams),
                "precision": right / max(1, detections),
                "twice": twice,
                "seconds": seconds / len(data),
            }
        )
    return rows


def memory_of(weights: Path, given: dict[str, Any], file: Path) -> float:
    """MB that detecting takes beside the detector and the picture; of a process that does nothing else."""
    detector = load(weights, "cpu", input=given)
    picture = Slide(file) if file.suffix == ".tif" else read_picture(file)
    detector(np.zeros((32, 32, 3), np.uint8))  # so that libraries are loaded
    forget_peak()
    before = held_memory() or 0
    detector(picture)
    return ((peak_memory() or 0) - before) / 1e6


def memory(weights: Path, folder: Path, side: int) -> Rows:
    """How memory grows with the picture."""
    rows = []
    for length in (side // 4, side // 2, side):
        picture, _, _ = draw_large(np.random.default_rng(length), scan_indices("val"), length)
        file, size = folder / f"{length}.png", round(ENLARGED * length)
        Image.fromarray(picture).save(file, compress_level=1)
        ways: dict[str, tuple[dict[str, Any], Path]] = {"tiles": ({}, file)}
        if length < side:  # the largest would take many GB
            ways["whole"] = {"tile": 0, "short_side": size, "long_side": size}, file
        if find_spec("tifffile"):
            import tifffile

            tifffile.imwrite(file.with_suffix(".tif"), picture, tile=(256, 256), photometric="rgb")
            ways["tiff"] = {}, file.with_suffix(".tif")
        row: dict[str, Any] = {"": f"{length} × {length}"}
        for name, (given, of) in ways.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                row[name] = apart.submit(memory_of, weights, given, of).result()
        rows.append(row)
    return rows


def show(console: Console, title: str, rows: Rows) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v := row.get(name, ""), float) else str(v) for name in names))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the demo's Faster R-CNN")
    parser.add_argument("--side", type=int, default=4000, help="pixels of the pictures that are tested")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=200, help="of each training")
    parser.add_argument("--pictures", type=int, default=2, help="that are tested")
    parser.add_argument("--small", action="store_true", help="to see that it works")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    if options.small:
        options.side, options.tile, options.iterations, options.pictures = 600, 160, 10, 1
    console, size = Console(), round(ENLARGED * options.tile)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "data", "train", options.side // 2, 4)
        data = write_pictures(folder / "data", "val", options.side, options.pictures)
        data = read_data(folder / "data", "val.json", images=folder / "data" / "val")
        of_tiles, of_wholes = (
            trained(options.weights, folder, tile, size, options.iterations) for tile in (options.tile, 0)
        )
        in_tiles, enough = load(of_tiles), int(data.fullest().max())  # that a whole picture holds
        ways = {
            "whole, shrunk, trained so": load(of_wholes, max_detections=enough),
            "whole, shrunk, trained on tiles": load(of_tiles, max_detections=enough, input={"tile": 0}),
            "tiles, nothing merged": with_settings(in_tiles, merge_threshold=1.0),
            "tiles, by IoU": in_tiles,
            "tiles, by the share inside": with_settings(in_tiles, merge="inside"),
            "tiles and the whole": with_settings(in_tiles, tile_whole=True),
            "tiles, mirrored too": with_settings(in_tiles, test_flip=True),
        }
        rows = compare(ways, data, in_tiles.preprocessing)
        grown = memory(of_tiles, folder, options.side)
    show(console, f"{options.pictures} × {options.side} × {options.side} pixels, {data.summary}", rows)
    show(console, "MB beside the picture", grown)
    if options.json:
        measured.write(options.json, [*rows, *grown])


if __name__ == "__main__":
    main()
