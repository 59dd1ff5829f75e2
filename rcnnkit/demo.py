"""The demo: digits are made, learnt and found by all three detectors, with the same calls that a user has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rcnnkit.config_files import check_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.kinds import DETECTORS
from rcnnkit.drawing import draw
from rcnnkit.evaluation.report import Evaluation, evaluate
from rcnnkit.files import check_free
from rcnnkit.proposals import selective_search
from rcnnkit.proposals.recall import coverage
from rcnnkit.tables import evaluation_table
from rcnnkit.terminal import safe
from rcnnkit.training.checkpoint import BEST, LAST
from rcnnkit.training.log import write_evaluation
from rcnnkit.training.train import train
from rcnnkit.weights import load, pick_device

TRAINING_PICTURES, VALIDATION_PICTURES = 512, 64
SHOWN = 8  # pictures with detections
CLOSE = 0.01  # AP50 that makes no difference in use
MIN_SIDE = 8  # pixels of the proposals; the digits are small


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one detector."""

    weights: Path
    train_seconds: float
    evaluation: Evaluation


def settings_for(name: str, out: Path, device: str, init: Path | None = None) -> dict[str, dict[str, Any]]:
    """Settings of one of DETECTORS on a ResNet-18, for small pictures and two CPU cores.

    Faster R-CNN starts from scratch, or from the classifier that R-CNN was made of, as Fast R-CNN does.
    """
    common: dict[str, dict[str, Any]] = {
        "model": {"kind": name.replace("-", "_"), "backbone": "resnet18", "norm": "batch"},
        "proposals": {"folder": str(out / "proposals"), "min_side": MIN_SIDE},
        "data": {"root": str(out / "data"), "val": ""},  # evaluated below
        "augment": {"flip": 0.0},  # a mirrored 2 is not a 2
        "train": {
            "schedule": "cosine",
            "warmup": 100,
            "evaluate_every": 0,
            "save_every": 150,
            "device": device,
            **({"init": str(init)} if init else {}),
        },
    }
    if name == "rcnn":
        own: dict[str, dict[str, Any]] = {
            "proposals": {"train_count": 200, "count": 300},
            "rcnn": {"size": 48, "context": 4, "classifier_lr": 1.0},
            "input": {"short_side": 0},  # windows are cut from the pictures as they are
            "train": {"iterations": 300, "lr_for_16": 0.05, "weight_decay": 5e-4, "warmup": 30},
        }
    else:
        own = {
            "model": {"fpn_channels": 64, "fpn_norm": "batch"},
            "rpn": {
                "anchor_sizes": [[24], [48], [96], [192], [384]],
                "pre_nms": 300,
                "post_nms": 200,
                "train_pre_nms": 300,
                "train_post_nms": 300,
            },
            "head": {"hidden": 256, "samples": 64},
            "proposals": {"train_count": 500, "count": 500},
            "input": {"short_side": 192, "long_side": 192},
            "augment": {"brightness": 0.2, "contrast": 0.2},
            "train": {"iterations": 900 if name == "faster-rcnn" else 600, "batch": 2, "lr_for_16": 0.16},
        }
    return {section: common.get(section, {}) | own.get(section, {}) for section in common | own}


def run_demo(out: Path, device: str, console: Console, only: str | None = None) -> dict[str, float]:
    """Fill `out` with data, trained detectors and pictures of what they find; AP50 of each on held-out pictures.

    Args:
        only: one of DETECTORS; all by default.

    Raises:
        FileExistsError: `out` holds something already.
        ValueError: `only` is none of DETECTORS.
    """
    began, console = time.perf_counter(), safe(console)
    if only is not None and only not in DETECTORS:
        raise ValueError(f"--only {only} is not one of {', '.join(DETECTORS)}")
    check_free(out)
    pick_device(device)  # before there is anything in the folder
    console.print(f"Drawing handwritten digits into {out}/data, as Pascal VOC and as COCO data")
    write_digits(out / "data", train=TRAINING_PICTURES, val=VALIDATION_PICTURES)
    held_out = read_data(out / "data", "val")
    outcomes: dict[str, Outcome] = {}
    for name, title in DETECTORS.items():
        if only in (None, name):
            # All start from one classifier, R-CNN's; alone, a detector starts from scratch.
            start = out / "rcnn" / LAST if "rcnn" in outcomes else None
            console.print()
            console.print(f"{title} (ResNet-18) in {out}/{name}" + (f", from {start}" if start else ", from scratch"))
            outcomes[name] = _train_and_evaluate(name, out, device, start, held_out, console)
    best = max(outcomes, key=lambda name: outcomes[name].evaluation.coco.numbers["AP"])
    console.print(evaluation_table(outcomes[best].evaluation))
    console.print(_comparison(outcomes, held_out))

    fastest_name = fastest(outcomes)
    detector, weights = load(outcomes[fastest_name].weights, device), outcomes[fastest_name].weights
    (out / "detections").mkdir()
    for record in held_out.records[:SHOWN]:
        draw(record.path, detector(record.path)).save(out / "detections" / record.path.name, quality=92)
    for line in (
        f"{SHOWN} pictures with what {DETECTORS[fastest_name]} finds are in {out}/detections;"
        f" {time.perf_counter() - began:.0f} s in all. To use it:",
        "",
        "  import rcnnkit",
        f'  detector = rcnnkit.load("{weights}")',
        f'  print(list(detector("{held_out.records[0].path}")))',
    ):
        console.print(line)
    return {name: outcome.evaluation.coco.numbers["AP50"] for name, outcome in outcomes.items()}


def finished(out: Path, only: str | None = None) -> Path | None:
    """The weights that a demo in this folder ended with: of the last detector that was trained, or of `only`."""
    for name in reversed(DETECTORS):
        best = out / name / BEST
        if only in (None, name) and best.is_file() and (out / "detections").is_dir():
            return best
    return None


def fastest(outcomes: dict[str, Outcome]) -> str:
    """The fastest of those that are about as good as the best: their AP50 is at most CLOSE below."""
    ap50 = {name: outcome.evaluation.coco.numbers["AP50"] for name, outcome in outcomes.items()}
    good = [name for name in outcomes if ap50[name] >= max(ap50.values()) - CLOSE]
    return min(good, key=lambda name: outcomes[name].evaluation.seconds_per_image)


def _train_and_evaluate(
    name: str, out: Path, device: str, start: Path | None, held_out: Dataset, console: Console
) -> Outcome:
    settings = check_settings(settings_for(name, out, device, start), "the demo")
    began = time.perf_counter()
    weights = train(settings, out / name, console=console)
    seconds = time.perf_counter() - began
    evaluation = evaluate(load(weights, device), held_out)  # R-CNN and Fast R-CNN search the pictures now
    write_evaluation(out / name, evaluation.to_json())
    return Outcome(weights, seconds, evaluation)


def _comparison(outcomes: dict[str, Outcome], held_out: Dataset) -> Table:
    """One row per detector; what selective search covers bounds the first two."""
    searched = (selective_search(record.path, min_side=MIN_SIDE) for record in held_out.records)
    covered = coverage(searched, [record.targets for record in held_out.records], held_out.class_names, [300, 500])
    bounds = {"rcnn": covered.recall(300), "fast-rcnn": covered.recall(500)}
    table = Table(title=f"{len(held_out)} held-out pictures, of digits that were not trained on", title_justify="left")
    for column in ("", "training, s", "s / picture", "proposals' recall", "AP50", "AP"):
        table.add_column(column, justify="right" if column else "left")
    for name, outcome in outcomes.items():
        numbers, bound = outcome.evaluation.coco.numbers, bounds.get(name)
        table.add_row(
            DETECTORS[name],
            f"{outcome.train_seconds:.0f}",
            f"{outcome.evaluation.seconds_per_image:.3f}",
            f"{bound:.3f}" if bound is not None else "",
            f"{numbers['AP50']:.3f}",
            f"{numbers['AP']:.3f}",
        )
    return table
