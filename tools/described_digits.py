"""A DenseCap on digits that are described by their size, colour, class and neighbour.

    python tools/described_digits.py [--minutes 20 | --iterations N] [--pictures 2000] [--seed 0] [--out FOLDER]
                                     [--json FILE]

Draws pictures ("large red seven", "small blue three left of a large white six") and trains from scratch for about so
many minutes: a quarter of them a Faster R-CNN that tells the digits apart, in place of the ImageNet weights that the
paper starts from, then a DenseCap that starts from it. It is judged on pictures with digits of other hands. Whole
phrases from true boxes: the share of phrases of which every word is right; METEOR does not see where "left" and "right"
change places.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import measured
import torch
from rich.console import Console

from rcnnkit.config_files import check_settings
from rcnnkit.data.coco import write_coco
from rcnnkit.data.described_digits import write_described_digits
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.detectors.densecap import DenseCap
from rcnnkit.drawing import draw, save_picture
from rcnnkit.evaluation.described import describe_objects
from rcnnkit.evaluation.report import evaluate
from rcnnkit.structures import Targets
from rcnnkit.tables import phrase_table
from rcnnkit.training.train import train
from rcnnkit.vocabulary import Vocabulary
from rcnnkit.weights import load

SIDE = 128  # pixels of the pictures
TRIAL = 20  # iterations that tell how long one takes
CLASSES = 0.25  # of the time, for classes before phrases
PARTS = {  # words of a phrase → what they say
    "size": ("small", "large"),
    "colour": ("red", "green", "blue", "yellow", "white", "black"),
    "digit": ("zero", "three", "four", "six", "seven"),
    "place": ("left", "right", "above", "below"),
}


def settings_for(data: Path, iterations: int, seed: int, kind: str = "densecap") -> dict[str, dict[str, Any]]:
    """The settings of a DenseCap, or of a Faster R-CNN that it can start from."""
    captions = {"captions": {"hidden": 256, "embedding": 128, "neighbours": True}} if kind == "densecap" else {}
    return captions | {
        "model": {
            "kind": kind,
            "backbone": "resnet18",
            "norm": "batch",
            "fpn_channels": 64,
            "fpn_norm": "batch",
        },
        "rpn": {
            "anchor_sizes": [[18], [38], [76], [152], [304]],
            "pre_nms": 300,
            "post_nms": 100,
            "train_pre_nms": 300,
            "train_post_nms": 200,
        },
        "head": {"hidden": 256, "samples": 64, "foreground_share": 0.5},
        "input": {"short_side": SIDE, "long_side": SIDE},
        "augment": {"flip": 0.0, "brightness": 0.1, "contrast": 0.1},
        "data": {"root": str(data), "val": "", "workers": 0},
        "train": {
            "iterations": iterations,
            "batch": 4,
            "optimizer": "adamw",
            "lr_for_16": 4e-3 if kind == "densecap" else 8e-3,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup": min(200, iterations // 5),
            "evaluate_every": 0,
            "save_every": 1000,
            "log_every": TRIAL,
            "precision": "auto",
            "device": "cpu",
            "seed": seed,
        },
    }


def write_classes(data: Path, folder: Path) -> None:
    """The training pictures with the digits as classes, as COCO JSON in `folder`."""
    described = read_data(data, "train")
    names = list(PARTS["digit"])
    vocabulary, records = Vocabulary(described.words), []
    for record in described.records:
        digits = [phrase.split()[2] for phrase in vocabulary.decode(record.targets.phrases)]
        labels = torch.tensor([names.index(digit) for digit in digits])
        records.append(replace(record, targets=Targets(record.targets.boxes, labels)))
    folder.mkdir(parents=True)
    write_coco(Dataset("digits", records, names, list(range(1, len(names) + 1))), folder / "train.json")


def right_parts(said: list[str], wanted: list[str]) -> dict[str, float]:
    """Shares that are right: parts of an object's own name, its neighbour's place, own names ("name"), and phrases
    wholly right, without ("alone") and with a neighbour."""

    def part(phrase: str, words: tuple[str, ...]) -> str | None:
        return next((word for word in phrase.split() if word in words), None)

    shares = {}
    for name, words in PARTS.items():
        pairs = [(part(a, words), part(b, words)) for a, b in zip(said, wanted, strict=True)]
        shares[name] = sum(a == b for a, b in pairs) / len(pairs)
    names = [(a.split()[:3], b.split()[:3]) for a, b in zip(said, wanted, strict=True)]
    shares["name"] = sum(a == b for a, b in names) / len(names)
    for name, chosen in (("alone", lambda p: " a " not in p), ("neighbour", lambda p: " a " in p)):
        pairs = [(a, b) for a, b in zip(said, wanted, strict=True) if chosen(b)]
        shares[name] = sum(a == b for a, b in pairs) / max(1, len(pairs))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training")
    parser.add_argument("--iterations", type=int, help="of training, in place of minutes")
    parser.add_argument("--pictures", type=int, default=2000, help="for training; an eighth as many are held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the data, the run and some pictures here")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        data = folder / "data"
        held_out = max(8, options.pictures // 8)
        write_described_digits(data, train=options.pictures, val=held_out, size=(SIDE, SIDE), seed=options.seed)
        quiet = Console(quiet=True)
        iterations = options.iterations
        if iterations is None:
            train(check_settings(settings_for(data, TRIAL, options.seed), "the tool"), folder / "trial", console=quiet)
            each = json.loads((folder / "trial" / "log.jsonl").read_text().splitlines()[0])["seconds"] / TRIAL
            iterations = max(TRIAL, int(60 * options.minutes / each))
            console.print(f"{each:.2f} s an iteration: {iterations} iterations")
        began = time.perf_counter()
        write_classes(data, folder / "classes")
        values = settings_for(folder / "classes", max(1, int(CLASSES * iterations)), options.seed, "faster_rcnn")
        values["data"] |= {"train": "train.json", "format": "coco"}
        classes = train(check_settings(values, "the tool"), folder / "faster-rcnn", console=console)
        values = settings_for(data, iterations - int(CLASSES * iterations), options.seed)
        values["train"]["init"] = str(classes)
        best = train(check_settings(values, "the tool"), folder / "run", console=console)
        seconds = time.perf_counter() - began
        detector = load(best, "cpu", "float32")
        assert isinstance(detector, DenseCap)
        held = read_data(data, "val")
        result = evaluate(detector, held, warn=False)
        described = describe_objects(detector, held)
        assert result.captions is not None
        console.print(phrase_table(result.captions))
        wanted = [each for (each,) in described.wanted]
        parts = right_parts(described.said, wanted)
        numbers = {"whole": described.whole, **parts, **described.scores, **result.captions.numbers}
        numbers |= {"AP50": result.numbers["AP50"], "minutes": seconds / 60, "iterations": iterations}
        for name, value in numbers.items():
            console.print(f"{name:>32} {value:.3f}")
        for said, right in list(zip(described.said, wanted, strict=True))[:12]:
            console.print(f"{'right' if said == right else 'wrong'}: {said!r}, wanted {right!r}")
        if options.out:
            for record, found in list(zip(held.records, result.detections, strict=True))[:8]:
                save_picture(draw(record.path, found), folder / f"{record.path.stem}.png")
        if options.json:
            row = {name.replace(" ", "_"): value for name, value in numbers.items()}
            measured.write(options.json, [{"": "described digits", "seed": options.seed, **row}])


if __name__ == "__main__":
    main()
