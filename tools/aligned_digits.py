"""Words of sentences aligned with digits, without any box beside the sentences.

    python tools/aligned_digits.py [--minutes 20 | --iterations 4000] [--pictures 2000] [--seed 0] [--out FOLDER]
        [--json FILE]

Draws pictures and sentences ("a large red seven left of a small blue three"), trains a small Faster R-CNN on the
digits from scratch for five sixths of the minutes, and the alignment of words with its regions in the rest at most.
With --iterations the detector has so many, and the alignment 1000, however long they take. Judged on 60 pictures of one
sentence each, with digits of other hands: recall both ways, where ties count as losses, and the share of words whose
region has an IoU of 0.5 or more with the digit that they speak of. The goals are a recall at 5 of 0.75 both ways, and
0.75 of the number words.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import measured
import torch
from described_digits import SIDE, TRIAL, settings_for
from rich.console import Console

from rcnnkit.boxes import iou
from rcnnkit.config_files import check_settings
from rcnnkit.data.reading import read_data
from rcnnkit.data.told_digits import write_told_digits
from rcnnkit.detectors.aligner import Aligner, Grounding
from rcnnkit.drawing import draw, save_picture
from rcnnkit.evaluation.aligned import evaluate_aligner
from rcnnkit.tables import retrieval_table
from rcnnkit.training.alignment_settings import align_settings
from rcnnkit.training.train import train
from rcnnkit.vocabulary import tokens
from rcnnkit.weights import load_aligner

MOST = 1000  # iterations of the alignment
HELD_OUT = 60  # pictures, each with one sentence
PARTS = {  # words → what they say
    "size": ("small", "large"),
    "colour": ("red", "green", "blue", "yellow", "white", "black"),
    "number": ("zero", "three", "four", "six", "seven"),
}
BETAS = (0.0, 2.0)


def detector_settings(data: Path, iterations: int, seed: int) -> dict[str, dict[str, Any]]:
    """Those of the detector that described digits start from, at half the rate."""
    values = settings_for(data, iterations, seed, "faster_rcnn")
    values["data"] |= {"train": "annotations/instances_train.json", "val": "annotations/instances_val.json"}
    values["train"]["lr_for_16"] = 4e-3
    return values


def seconds_of(run: Path) -> float:
    """How long an iteration of a run took at its end."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    return float(steps[-1]["seconds"]) / steps[-1]["iteration"]


def right_regions(aligner: Aligner, data: Path, beta: float) -> tuple[dict[str, float], list[tuple[Path, Grounding]]]:
    """Of each kind of word the share whose region is the digit meant; and the groundings."""
    content = json.loads((data / "annotations" / "captions_val.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    all_, right, groundings = Counter[str](), Counter[str](), list[tuple[Path, Grounding]]()
    for annotation in content["annotations"]:
        path = data / "val" / names[annotation["image_id"]]
        grounding = aligner.ground(path, annotation["caption"], beta=beta)
        groundings.append((path, grounding))
        chosen = grounding.boxes[grounding.regions]
        for word, box, region in zip(tokens(annotation["caption"]), annotation["boxes"], chosen, strict=True):
            part = next((part for part, words in PARTS.items() if word in words), None)
            if part and box:
                x, y, width, height = box
                all_[part] += 1
                right[part] += bool(iou(torch.tensor([[x, y, x + width, y + height]]), region[None]) >= 0.5)
    return {f"{part} words right, beta {beta:g}": right[part] / all_[part] for part in PARTS}, groundings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of both trainings together")
    parser.add_argument("--iterations", type=int, default=0, help="of the detector, in place of the minutes")
    parser.add_argument("--pictures", type=int, default=2000, help="for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the data, the runs and some pictures here")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    console, quiet = Console(width=120), Console(quiet=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        data, seed = folder / "data", options.seed
        write_told_digits(data, train=options.pictures, val=HELD_OUT, size=(SIDE, SIDE), seed=seed)
        began = time.perf_counter()
        if not (iterations := options.iterations):
            train(check_settings(detector_settings(data, TRIAL, seed), "the tool"), folder / "trial", console=quiet)
            iterations = max(TRIAL, int(50 * options.minutes / seconds_of(folder / "trial")))
        console.print(f"a detector in {iterations} iterations")
        settings = check_settings(detector_settings(data, iterations, seed), "the tool")
        detector = train(settings, folder / "detector", console=console)
        ap = json.loads((folder / "detector" / "evaluation.json").read_text())["coco"]["AP50"]

        given = ["data.val=''", "train.device=cpu", "train.precision=float32", f"train.seed={seed}"]
        given += [
            "train.lr_for_16=2e-3",
            "alignment.regions=9",
            *(f"alignment.{name}=128" for name in ("space", "hidden", "embedding")),
        ]
        iterations = MOST
        if not options.iterations:
            run_of = [*given, f"train.iterations={TRIAL}", f"train.log_every={TRIAL}"]
            train(align_settings(detector, write_few(data), run_of), folder / "trial of words", console=quiet)
            each = seconds_of(folder / "trial of words")
            iterations = max(TRIAL, min(MOST, int(10 * options.minutes / each)))
        console.print(f"an alignment in {iterations} iterations")
        given += [f"train.iterations={iterations}"]
        best = train(align_settings(detector, data, given), folder / "aligner", console=console)
        minutes = (time.perf_counter() - began) / 60

        aligner, held = load_aligner(best, "cpu", "float32"), read_data(data, "val", format="captions")
        result = evaluate_aligner(aligner, held)
        console.print(retrieval_table(result))
        numbers: dict[str, float] = {**result.numbers, "AP50 of the detector": ap}
        for beta in BETAS:
            shares, groundings = right_regions(aligner, data, beta)
            numbers |= shares
        numbers |= {"minutes": minutes, "iterations": iterations}
        for name, value in numbers.items():
            console.print(f"{name:>32} {value:.3f}")
        if options.out:
            for path, grounding in groundings[:8]:
                drawn = draw(path, grounding.detections(), min_score=-torch.inf)
                save_picture(drawn, folder / f"{path.stem}.png")
        if options.json:
            row = {name.replace(",", "").replace(" ", "_"): value for name, value in numbers.items()}
            measured.write(options.json, [{"": "aligned digits", "seed": seed, **row}])


def write_few(data: Path) -> Path:
    """The sentences of the first 20 training pictures alone, in a file of their own, for a trial."""
    content = json.loads((data / "annotations" / "captions_train.json").read_text())
    images = content["images"][:20]
    known = {image["id"] for image in images}
    chosen = [each for each in content["annotations"] if each["image_id"] in known]
    file = data / "few.json"
    file.write_text(json.dumps({"images": images, "annotations": chosen}))
    return file


if __name__ == "__main__":
    main()
