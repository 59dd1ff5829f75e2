"""The demo: digits are made, learnt and found, with the same calls that a user has."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console

from rcnnkit.config import check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.drawing import draw
from rcnnkit.evaluation.report import evaluate
from rcnnkit.training.loop import train
from rcnnkit.training.precision import autocast, pick_dtype
from rcnnkit.weights import load

TRAINING_PICTURES = 512
SHOWN = 8  # pictures with detections


def settings_for(data: Path, device: str) -> dict[str, dict[str, object]]:
    """A ResNet-18 with a narrow FPN, from scratch, for small pictures and two CPU cores."""
    return {
        "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 64, "fpn_norm": "batch"},
        "rpn": {
            "anchor_sizes": [[24], [48], [96], [192], [384]],
            "pre_nms": 300,
            "post_nms": 200,
            "train_pre_nms": 300,
            "train_post_nms": 300,
        },
        "head": {"hidden": 256, "samples": 64},
        "input": {"short_side": 192, "long_side": 192},
        "data": {"root": str(data), "val": ""},  # evaluated below
        "augment": {"flip": 0.0, "brightness": 0.2, "contrast": 0.2},  # a mirrored 2 is no 2
        "train": {
            "iterations": 900,
            "batch": 2,
            "lr": 0.16,
            "schedule": "cosine",
            "warmup": 100,
            "evaluate_every": 0,
            "save_every": 150,
            "device": device,
        },
    }


def run_demo(out: Path, device: str, console: Console) -> float:
    """Fill `out` with data, a trained detector and pictures of what it finds; AP50 on held-out pictures.

    Raises:
        FileExistsError: `out` holds something already.
    """
    began = time.perf_counter()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty; choose another --out, nothing is overwritten")
    console.print(f"1. Drawing handwritten digits into {out}/data, as Pascal VOC and as COCO data")
    write_digits(out / "data", train=TRAINING_PICTURES)
    console.print(f"2. Training Faster R-CNN (ResNet-18, FPN) from scratch in {out}/run")
    best = train(check_settings(settings_for(out / "data", device), "the demo"), out / "run", console)

    console.print("3. Evaluating on 64 held-out pictures, of digits that were not trained on")
    detector = load(best, device)
    held_out = read_data(out / "data", "val", class_names=detector.class_names)
    with autocast(detector.device, pick_dtype("auto", detector.device)):
        evaluation = evaluate(detector, held_out)
    console.print(evaluation.table())
    (out / "evaluation.json").write_text(json.dumps(evaluation.to_json(), indent=1), encoding="utf-8")

    console.print(f"4. Detecting: {SHOWN} pictures with boxes in {out}/detections")
    (out / "detections").mkdir()
    for record in held_out.records[:SHOWN]:
        draw(record.path, detector(record.path)).save(out / "detections" / record.path.name, quality=92)
    ap50 = evaluation.coco.numbers["AP50"]
    console.print(
        f"AP50 {ap50:.3f} after {time.perf_counter() - began:.0f} s in all. To use this detector:\n\n"
        "  import rcnnkit\n"
        f'  detector = rcnnkit.load("{best}")\n'
        f'  print(list(detector("{held_out.records[0].path}")))',
        soft_wrap=True,
    )
    return ap50
