"""Turned digits with a spatial transformer, without one, and with rotated training pictures in its place.

    python tools/turned_digits.py [--what windows detectors] [--seeds 3] [--small] [--json FILE]

windows: the table of the spatial transformer's paper (arXiv:1506.02025, table 1), for a fully connected network on
single digits; R: turned by up to 90 degrees; RTS: turned by up to 45, scaled by 0.7 to 1.2 and moved. Networks of a
column have about as many weights.

detectors: a classifier of digits that were cut out of `write_digits(turn=90)`, and an R-CNN on what it has learnt.

Everything is trained from scratch, on one thread. Scans in training are never those that are tested. The windows take
about 3 minutes for 3 seeds on one core, the detectors about 2 for each seed; --small has an eighth of the iterations.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import albumentations as A
import measured
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rcnnkit.backbones.spatial_transformer import SpatialTransformer, TransformerSettings, sample
from rcnnkit.config_files import check_settings
from rcnnkit.data.class_folders import read_class_folders, write_class_folders
from rcnnkit.data.digits import CLASSES, scan_indices, write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.evaluation.accuracy import evaluate_classifier
from rcnnkit.evaluation.report import evaluate
from rcnnkit.training.train import train
from rcnnkit.weights import load, load_classifier

VARIANTS = ("none", "rotation", "affine", "augmentation")
SETS = {"R": (28, 90.0, (1.0, 1.0)), "RTS": (42, 45.0, (0.7, 1.2))}  # side, degrees, scales
DRAWN = {"train": 5000, "val": 1500}
HIDDEN, BATCH, ITERATIONS, RATE = 96, 128, 800, 1e-3
Rows = list[dict[str, Any]]


def turned(count: int, degrees: float, scales: tuple[float, float], room: float, generator: torch.Generator) -> Tensor:
    """(N, 2, 3): where to read, so that what is shown is turned, scaled and moved by up to `room`, a share of half the
    side."""
    angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(degrees)
    size = scales[0] + (scales[1] - scales[0]) * torch.rand(count, generator=generator)
    shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * room
    linear = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2) / size[:, None, None]
    return torch.cat([linear, -(linear @ shift[:, :, None])], 2)


def windows(name: str, split: str, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 1, S, S) in [0, 1] with a digit each, and their classes (N,)."""
    side, degrees, scales = SETS[name]
    generator = torch.Generator().manual_seed(2 * seed + (split == "val"))
    labels = torch.randint(len(CLASSES), (DRAWN[split],), generator=generator)
    scans, chosen = load_digits().images / 16, scan_indices(split)
    pictures = []
    for label in labels.tolist():
        of_class = chosen[CLASSES[label]]
        pictures.append(scans[of_class[int(torch.randint(len(of_class), (), generator=generator))]])
    small = torch.from_numpy(np.stack(pictures)).float()[:, None]
    large = F.interpolate(small, size=20, mode="bicubic").clamp(0, 1)
    margin = (side - 20) // 2
    room = (side - 28) / side  # RTS is moved as far as the larger canvas lets it
    return sample(F.pad(large, (margin,) * 4), turned(len(labels), degrees, scales, room, generator)), labels


def network(variant: str, side: int) -> nn.Module:
    def connected(hidden: int) -> nn.Sequential:
        layers = [nn.Linear(side**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(hidden, len(CLASSES)))

    plain = connected(HIDDEN)
    if variant not in ("rotation", "affine"):
        return plain
    transformer = SpatialTransformer(1, side, TransformerSettings(kind=variant, localisation_lr=1.0))  # type: ignore[arg-type]
    left = weights_of(plain) - weights_of(transformer)
    hidden = max(h for h in range(8, HIDDEN) if weights_of(connected(h)) <= left)
    return nn.Sequential(transformer, connected(hidden))


def weights_of(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def window_error(name: str, variant: str, seed: int, iterations: int) -> dict[str, Any]:
    side, degrees, _ = SETS[name]
    torch.manual_seed(seed)
    model = network(variant, side)
    (pixels, labels), (held, answers) = windows(name, "train", seed), windows(name, "val", seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(iterations):
        rows = torch.randint(len(labels), (BATCH,), generator=generator)
        seen = pixels[rows]
        if variant == "augmentation":
            seen = sample(seen, turned(BATCH, degrees, (1.0, 1.0), 0.0, generator))
        optimizer.zero_grad()
        F.cross_entropy(model(seen), labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        error = (model(held).argmax(1) != answers).double().mean().item()
    return {"": f"{name}, {variant}", "seed": seed, "error": error, "weights": weights_of(model)}


def detector_rows(folder: Path, variant: str, seed: int, iterations: int) -> dict[str, Any]:
    """A classifier's error, and the AP of an R-CNN whose network it is."""
    data, crops = folder / "data", folder / "crops"
    if not data.exists():
        write_digits(data, train=128, val=64, size=(128, 128), turn=90.0)
        for split in ("train", "val"):
            write_class_folders(read_data(data, split, format="voc"), crops / split, 0.15)
        turn = A.Affine(rotate=(-90, 90), p=1.0, border_mode=1)  # 1: the border continues
        A.save(A.Compose([turn]), str(folder / "turn.yaml"), data_format="yaml")
    kind = variant if variant in ("rotation", "affine") else "none"
    common: dict[str, Any] = {
        "model": {"backbone": "resnet18", "norm": "batch"},
        "transformer": {"kind": kind, "localisation_lr": 1.0},
        "train": {"seed": seed, "evaluate_every": 0, "warmup": 20, "schedule": "cosine", "precision": "float32"},
    }
    own = {"pipeline": str(folder / "turn.yaml")} if variant == "augmentation" else {"flip": 0.0}
    settings = {
        "model": common["model"] | {"kind": "classifier"},
        "transformer": common["transformer"],
        "classifier": {"resize": 32, "crop": 32, "area": (0.8, 1.0)},
        "augment": own,
        "data": {"root": str(crops), "val": "", "workers": 0},
        "train": common["train"] | {"iterations": iterations, "batch": 64, "lr_for_16": 0.02},
    }
    quiet = Console(quiet=True)
    start = train(check_settings(settings, "the tool"), folder / f"classifier-{variant}-{seed}", console=quiet)
    held = read_class_folders(crops, "val", skip_bad=False)
    right = evaluate_classifier(load_classifier(start, "cpu"), held, batch_size=128, precision="float32").top1
    settings = {
        "model": common["model"] | {"kind": "rcnn"},
        "transformer": common["transformer"],
        "rcnn": {"size": 32, "context": 4, "fine_tune": False},
        "proposals": {"folder": str(folder / "proposals"), "min_side": 8, "train_count": 60, "count": 100},
        "input": {"short_side": 0},
        "augment": {"flip": 0.0},
        "data": {"root": str(data), "format": "voc", "val": "", "workers": 0},
        "train": common["train"] | {"init": str(start)},
    }
    best = train(check_settings(settings, "the tool"), folder / f"rcnn-{variant}-{seed}", console=quiet)
    found = evaluate(load(best, "cpu", "float32"), read_data(data, "val", format="voc"), warn=False)
    return {"": variant, "seed": seed, "error": 1 - right, "AP50": found.numbers["AP50"], "AP": found.numbers["AP"]}


def show(rows: Rows, columns: tuple[str, ...], title: str, console: Console) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(f"{column}, % (mean)", justify="right")
        table.add_column("each seed", justify="right")
    for name in dict.fromkeys(row[""] for row in rows):
        cells = []
        for column in columns:
            values = [100 * row[column] for row in rows if row[""] == name]
            cells += [f"{statistics.mean(values):.1f}", " ".join(f"{value:.1f}" for value in values)]
        table.add_row(name, *cells)
    console.print(table)


def summary(rows: Rows) -> Rows:
    """Of each network the means over the seeds, in %, and the error of every seed."""
    lines = []
    for name in dict.fromkeys(row[""] for row in rows):
        own = [row for row in rows if row[""] == name]
        keys = [key for key in own[0] if key not in ("", "seed")]
        means = {key: 100 * statistics.mean(row[key] for row in own) for key in keys}
        lines.append({"": name, **means, "errors": [100 * row["error"] for row in own]})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=["windows", "detectors"], default=["windows", "detectors"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="an eighth of the iterations, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, rows = Console(width=120), {}
    share = 8 if options.small else 1
    if "windows" in options.what:
        for name in SETS:
            rows[name] = [
                window_error(name, variant, seed, ITERATIONS // share)
                for variant in VARIANTS
                for seed in range(options.seeds)
            ]
            show(rows[name], ("error",), f"{name}, fully connected", console)
    if "detectors" in options.what:
        with tempfile.TemporaryDirectory() as folder:
            rows["detectors"] = [
                detector_rows(Path(folder), variant, seed, 200 // share)
                for variant in VARIANTS
                for seed in range(options.seeds)
            ]
        show(rows["detectors"], ("error", "AP50", "AP"), "classifier's error, and its R-CNN's AP", console)
    if options.json:
        every = [row for some in rows.values() for row in some]
        measured.write(options.json, summary(every), runs=every)


if __name__ == "__main__":
    main()
