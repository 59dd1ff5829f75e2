"""COCO's numbers beside pycocotools': python tools/benchmark_metrics.py [options]

The detections are made up: several of each object, shifted at random; a third lie elsewhere, and many scores are equal.
Each contender runs in a process of its own. Its memory is what it needs beyond the detections themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnnkit.data.records import Dataset, Record
from rcnnkit.evaluation.coco import coco_metrics
from rcnnkit.structures import Detections, Targets, coco_entry

SIDE = 640  # pixels of the pictures


def make(pictures: int, detections: int, classes: int, objects: int = 7) -> tuple[list[Detections], Dataset]:
    """Pictures with about so many objects, a hundredth of which are crowds, and detections of them."""
    rng = np.random.default_rng(0)
    found, records = [], []
    for i in range(pictures):
        number = int(rng.integers(0, 2 * objects + 1))
        corners = rng.uniform(0, SIDE - 20, (number, 2))
        boxes = np.concatenate([corners, corners + np.exp(rng.uniform(np.log(8), np.log(300), (number, 2)))], axis=1)
        labels, crowd = rng.integers(0, classes, number), rng.random(number) < 0.01
        targets = Targets(torch.from_numpy(boxes).float(), torch.from_numpy(labels), crowd=torch.from_numpy(crowd))
        records.append(Record(i + 1, Path(f"{i}.jpg"), (SIDE, SIDE), targets))

        near = rng.integers(0, max(number, 1), detections) if number else np.zeros(0, dtype=np.int64)
        copies = boxes[near] + rng.normal(0, 0.08, (len(near), 4)) * (boxes[near, 2:] - boxes[near, :2]).repeat(2, 1)
        corners = rng.uniform(0, SIDE - 20, (detections, 2))
        elsewhere = np.concatenate([corners, corners + rng.uniform(8, 200, (detections, 2))], axis=1)
        stray = rng.random(detections) < (0.3 if number else 1)
        mixed = elsewhere if not number else np.where(stray[:, None], elsewhere, copies)
        mixed[:, 2:] = np.maximum(mixed[:, 2:], mixed[:, :2] + 1)
        own = rng.integers(0, classes, detections) if not number else labels[near]
        other = stray | (rng.random(detections) < 0.2)
        own = np.where(other, rng.integers(0, classes, detections), own)
        scores = np.sort(rng.integers(0, 1000, detections) / 1000)[::-1].copy()
        found.append(
            Detections(torch.from_numpy(mixed).float(), torch.from_numpy(scores).float(), torch.from_numpy(own))
        )
    names = [f"class {k}" for k in range(classes)]
    return found, Dataset("made", records, names, list(range(1, classes + 1)))


def official(detections: list[Detections], dataset: Dataset) -> list[float]:
    """pycocotools' twelve numbers, from the same boxes."""
    truth, results = COCO(), []
    annotations: list[dict[str, Any]] = []
    for record, answer in zip(dataset.records, detections, strict=True):
        assert isinstance(record.id, int)
        targets = record.targets
        for box, label, crowd, area in zip(
            targets.boxes.tolist(), targets.labels.tolist(), targets.crowd.tolist(), targets.areas.tolist(), strict=True
        ):
            entry = coco_entry(record.id, label + 1, box)
            annotations.append({"id": len(annotations) + 1, **entry, "area": area, "iscrowd": int(crowd)})
        for box, score, label in zip(
            answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(), strict=True
        ):
            results.append(coco_entry(record.id, label + 1, box) | {"score": score})
    truth.dataset = {
        "images": [{"id": record.id} for record in dataset.records],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats]


def ours(detections: list[Detections], dataset: Dataset) -> list[float]:
    return list(coco_metrics(detections, dataset).numbers.values())[:12]


def measured(contender: Callable[..., list[float]], sizes: tuple[int, int, int], answer: Any) -> None:
    """Sends seconds, MB beyond what was there before, and the numbers."""
    torch.set_num_threads(1)
    detections, dataset = make(*sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    numbers = contender(detections, dataset)
    seconds = time.perf_counter() - began
    answer.send((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="of a picture")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--alone", action="store_true", help="leave pycocotools out")
    options = parser.parse_args()
    sizes = (options.pictures, options.detections, options.classes)
    context = multiprocessing.get_context("spawn")
    results = {}
    for name, contender in {"rcnnkit": ours, **({} if options.alone else {"pycocotools": official})}.items():
        ours_end, theirs = context.Pipe()
        process = context.Process(target=measured, args=(contender, sizes, theirs))
        process.start()
        theirs.close()
        seconds, megabytes, numbers = ours_end.recv()
        process.join()
        results[name] = numbers
        print(f"{name:>12}  {seconds:7.2f} s  {megabytes:7.0f} MB  AP {numbers[0]:.6f}")
    if len(results) == 2:
        first, second = results.values()
        largest = max(abs(a - (b if b > -1 else a)) for a, b in zip(first, second, strict=True))
        print(f"largest difference of the twelve numbers: {largest:.1e}")


if __name__ == "__main__":
    main()
