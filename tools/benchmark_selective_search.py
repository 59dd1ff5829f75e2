"""Selective search beside OpenCV's: python tools/benchmark_selective_search.py DATA [options]

DATA is a VOC folder or a COCO .json file; pictures with objects are taken, resized to one width. Each picture goes to
every contender in turn, so that a machine that drifts favours none; OpenCV gets one thread, as more hardly help it. It
takes part where its contrib build is installed, which fits beside the other one in a folder of its own:

    pip install --target contrib --no-deps opencv-contrib-python-headless
    PYTHONPATH=contrib python tools/benchmark_selective_search.py …/annotations/instances_train2017.json
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import measured
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rcnnkit.boxes import scale
from rcnnkit.data.reading import read_data
from rcnnkit.images import read_picture
from rcnnkit.proposals import selective_search
from rcnnkit.proposals.recall import LARGE, best_overlaps, coverage
from rcnnkit.proposals.selective_search import Mode
from rcnnkit.structures import Proposals, Targets

Array = np.ndarray
FIRST = 2000  # boxes that are scored
THREADS = torch.get_num_threads()


def resized(picture: Array, width: int) -> Array:
    height = round(picture.shape[0] * width / picture.shape[1])
    shrinks = width < picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def opencv(picture: Array, mode: Mode) -> Tensor:
    """(N, 4) xyxy, OpenCV's order."""
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()  # type: ignore[attr-defined]  # opencv-contrib's
    search.setBaseImage(np.ascontiguousarray(picture[:, :, ::-1]))
    search.switchToSelectiveSearchFast() if mode == "fast" else search.switchToSelectiveSearchQuality()
    boxes = torch.from_numpy(search.process().astype(np.float32))
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def ours(picture: Array, mode: Mode, threads: int, seed: int = 0) -> Tensor:
    torch.set_num_threads(threads)
    return selective_search(picture, mode, seed=seed).boxes


def timed(call: Any, *arguments: Any) -> tuple[Tensor, float]:
    began = time.perf_counter()
    boxes = call(*arguments)
    return boxes, time.perf_counter() - began


def compare(pictures: list[Array], targets: list[Targets], names: list[str], mode: Mode, seeds: int) -> dict[str, Any]:
    """Seconds and quality of each contender on the same pictures."""
    threads = sorted({1, THREADS})
    peer = hasattr(cv2, "ximgproc")
    seconds: dict[str, list[float]] = {}
    found: dict[str, list[Tensor]] = {}
    for picture in pictures:
        if peer:
            boxes, took = timed(opencv, picture, mode)
            seconds.setdefault("OpenCV", []).append(took)
            found.setdefault("OpenCV", []).append(boxes)
        for count in threads:
            boxes, took = timed(ours, picture, mode, count)
            seconds.setdefault(f"rcnnkit, {count} thread{'s' * (count > 1)}", []).append(took)
        found.setdefault("rcnnkit, seed 0", []).append(boxes)
        for seed in range(1, seeds):
            found.setdefault(f"rcnnkit, seed {seed}", []).append(ours(picture, mode, THREADS, seed))
    lengths = [len(boxes[:FIRST]) for boxes in found.get("OpenCV", [])]
    quality = {}
    for name, each in found.items():
        quality[name] = scores([boxes[:FIRST] for boxes in each], targets, names)
        if lengths and name != "OpenCV":
            quality[name + ", as many boxes"] = scores(
                [b[:n] for b, n in zip(each, lengths, strict=True)], targets, names
            )
    rows = {name: {"median_seconds": statistics.median(each), "spread": spread(each)} for name, each in seconds.items()}
    for name, row in rows.items():
        if peer:
            ratios = [a / b for a, b in zip(seconds["OpenCV"], seconds[name], strict=True)]
            row["times_as_fast"] = statistics.median(ratios)
    return {"mode": mode, "time": rows, "quality": quality}


def spread(values: list[float]) -> list[float]:
    """The first and last decile."""
    cuts = np.quantile(values, [0.1, 0.9])
    return [float(cuts[0]), float(cuts[1])]


def scores(boxes: list[Tensor], targets: list[Targets], names: list[str]) -> dict[str, float]:
    count = max(1, *(len(each) for each in boxes))
    proposals = (Proposals(each, torch.arange(len(each), 0, -1.0)) for each in boxes)
    result = coverage(proposals, targets, names, counts=[count])
    return {
        "boxes": float(result.lengths.double().mean()),
        "recall_50": result.recall(count),
        "recall_50_large": result.recall(count, min_area=LARGE),
        "recall_70": result.recall(count, 0.7),
        "mabo": result.mabo(count),
    }


def growth(pictures: list[Array], mode: Mode) -> list[dict[str, float]]:
    """Seconds at several widths, and over n log n of the pixels, 1 at the first width."""
    rows: list[dict[str, float]] = []
    for width in (250, 500, 1000, 2000):
        taken, work = [], []
        for picture in pictures[:: max(1, len(pictures) // 8)]:
            image = resized(picture, width)
            taken.append(min(timed(ours, image, mode, 1)[1] for _ in range(3)))
            pixels = image.shape[0] * image.shape[1]
            work.append(pixels * np.log(pixels))
        rows.append({"width": width, "seconds": statistics.mean(taken), "per_work": sum(taken) / sum(work)})
    return [row | {"per_work": row["per_work"] / rows[0]["per_work"]} for row in rows]


def memory(mode: Mode) -> float:
    """MB that one search of a 500 × 375 picture adds to a process, on one thread."""
    code = (
        f"from {Path(__file__).stem} import peak; import numpy as np\n"
        "image = np.random.default_rng(0).integers(0, 256, (75, 100, 3)).astype(np.uint8)\n"
        "image = image.repeat(5, 0).repeat(5, 1)\n"
        f"print(peak(image, {mode!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def peak(image: Array, mode: Mode) -> float:
    ours(image[:40, :40], mode, 1)  # what is loaded with the first call
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = kilobytes("VmRSS")
    ours(image, mode, 1)
    return (kilobytes("VmHWM") - before) / 1e3


def kilobytes(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def reference(folder: Path, mode: Mode) -> dict[str, float]:
    """Mean best overlap of the boxes that the authors released for a picture (sides of 20 and more) with ours."""
    result = {}
    for file in sorted(folder.glob("*.npy")):
        stored = torch.from_numpy(np.load(file, allow_pickle=False))
        stored[:, 2:] += 1  # they end at the last pixel
        stored = stored[((stored[:, 2:] - stored[:, :2]) >= 20).all(dim=1)]
        boxes = selective_search(file.with_suffix(".jpg"), mode).boxes
        result[file.stem] = float(best_overlaps(boxes, stored, [len(boxes)]).mean())
    return result


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The time of each contender, in ms, then how good its boxes are."""
    times = []
    for name, row in result["time"].items():
        times.append({"": name, "ms": 1e3 * row["median_seconds"], "range": [1e3 * s for s in row["spread"]]})
        if "times_as_fast" in row:
            times[-1]["ratio"] = row["times_as_fast"]
    return times + [{"": name, **row} for name, row in result["quality"].items()]


def tables(result: dict[str, Any]) -> list[Table]:
    time_table = Table(title=f"{result['mode']} mode: time a picture", title_justify="left")
    for column in ("", "median ms", "10 – 90 %", "OpenCV ÷ this"):
        time_table.add_column(column, justify="left" if not column else "right")
    for name, row in result["time"].items():
        low, high = row["spread"]
        ratio = f"{row['times_as_fast']:.1f}×" if "times_as_fast" in row else ""
        time_table.add_row(name, f"{1e3 * row['median_seconds']:.1f}", f"{1e3 * low:.0f} – {1e3 * high:.0f}", ratio)
    quality_table = Table(title=f"{result['mode']} mode: the first {FIRST} boxes", title_justify="left")
    for column in ("", "boxes", "recall 0.5", "≥ 32×32", "recall 0.7", "MABO"):
        quality_table.add_column(column, justify="left" if not column else "right")
    for name, row in result["quality"].items():
        values = [f"{row[key]:.3f}" for key in ("recall_50", "recall_50_large", "recall_70", "mabo")]
        quality_table.add_row(name, f"{row['boxes']:.0f}", *values)
    return [time_table, quality_table]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test", help="of a VOC folder")
    parser.add_argument("--width", type=int, default=500, help="of the pictures; 0: as they are")
    parser.add_argument("--modes", nargs="+", choices=["fast", "quality"], default=["fast"])
    parser.add_argument("--every", type=int, default=1, help="take every so many-th picture")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reference", type=Path, help="a folder of pictures (.jpg) and released boxes (.npy)")
    parser.add_argument("--growth", action="store_true", help="also the time at several widths")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args()
    console = Console()
    cv2.setNumThreads(1)
    data = read_data(options.data, options.split, skip_bad=True)
    pictures, targets = [], []
    for record in [r for r in data.records if len(r.targets)][:: options.every]:
        picture = read_picture(record.path, record.size)
        picture = resized(picture, options.width) if options.width else picture
        boxes = scale(record.targets.boxes, record.size, (picture.shape[0], picture.shape[1]))
        pictures.append(picture)
        targets.append(Targets(boxes, record.targets.labels, record.targets.difficult, crowd=record.targets.crowd))
    about = f"{data.name}: {len(pictures)} pictures, {sum(map(len, targets))} objects"
    console.print(about + ("" if hasattr(cv2, "ximgproc") else "; OpenCV's contrib build is not installed"))
    results: dict[str, Any] = {"data": about, "modes": []}
    for mode in options.modes:
        result = compare(pictures, targets, list(data.class_names), mode, options.seeds)
        result["memory_mb"] = memory(mode)
        console.print(*tables(result), sep="\n")
        console.print(f"memory for a picture of 500 × 375, one thread: {result['memory_mb']:.0f} MB")
        if options.reference:
            result["reference"] = reference(options.reference, mode)
            shown = ", ".join(f"{name} {value:.3f}" for name, value in result["reference"].items())
            console.print(f"mean best overlap of the released boxes with ours: {shown}")
        if options.growth:
            result["growth"] = growth(pictures, mode)
            for row in result["growth"]:
                console.print(
                    f"width {row['width']:>5}: {1e3 * row['seconds']:7.1f} ms on one thread,"
                    f" {row['per_work']:.2f} of the first width's time for n log n"
                )
        results["modes"].append(result)
    if options.json:
        measured.write(options.json, rows(results["modes"][0]), **results)


if __name__ == "__main__":
    main()
