"""A-Fast-RCNN (arXiv:1704.03414) and its controls, on pictures as they are and on copies whose objects are covered.

    python tools/compare_adversaries.py [--cells BCCD] [--kinds none random …] [--seeds 2] [--iterations N]
                                        [--share 0.3] [--small] [--json FILE]

Trains a Faster R-CNN from scratch for each `adversary.kind` and each seed: on digits as `rcnnkit demo` does, and with
--cells, the folder of BCCD, on blood cells as configs/faster_rcnn_resnet18_fpn_bccd.toml says. The adversary's networks
have 64 filters and units. AP is that on held-out pictures (of digits: val; of cells: test), and on copies of them, in
which as much of each object is covered as --share says.

A run is printed as soon as it ends. On one core it takes about 4 minutes on digits and 8 on cells; --small has an
eighth of the iterations and evaluates on 16 pictures, to see that it works.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import measured
from rich.console import Console
from rich.table import Table

from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings, read_settings
from rcnnkit.data.digits import write_digits
from rcnnkit.data.occluded import write_occluded
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset
from rcnnkit.demo import TRAINING_PICTURES, VALIDATION_PICTURES, settings_for
from rcnnkit.evaluation.report import evaluate
from rcnnkit.heads.adversary import AdversarySettings
from rcnnkit.training.train import train
from rcnnkit.weights import load

CONFIG = Path(__file__).parents[1] / "configs" / "faster_rcnn_resnet18_fpn_bccd.toml"
KINDS: Sequence[str] = get_args(AdversarySettings.model_fields["kind"].annotation)
HIDDEN = 64
SMALL = 8  # times fewer iterations
FEW = 16  # pictures
NUMBERS = ("AP", "AP50", "covered AP", "covered AP50")
Row = dict[str, Any]


def digits(folder: Path, small: bool) -> tuple[Settings, Dataset]:
    """The settings of a run without an adversary, and the held-out pictures."""
    pictures = (FEW, FEW) if small else (TRAINING_PICTURES, VALIDATION_PICTURES)
    write_digits(folder / "data", train=pictures[0], val=pictures[1])
    settings = check_settings(settings_for("faster-rcnn", folder, "cpu"), "the tool")
    return settings, read_data(folder / "data", "val")


def cells(root: Path, small: bool) -> tuple[Settings, Dataset]:
    """The same of blood cells."""
    settings = read_settings(CONFIG, [f"data.root={root}", "data.val=", "train.device=cpu"])
    held_out = read_data(root, "test", skip_bad=True)
    if small:
        held_out = replace(held_out, records=held_out.records[:FEW])
    return settings, held_out


def changed(settings: Settings, kind: str, seed: int, iterations: int) -> Settings:
    """With an adversary of that kind."""
    values = settings.model_dump(mode="json", exclude_none=True)
    values["adversary"] = {"kind": kind, "hidden": HIDDEN}
    values["train"] |= {"seed": seed, "iterations": iterations}
    return check_settings(values, "the tool")


def run(settings: Settings, pictures: Sequence[Dataset], folder: Path) -> Row:
    """What one training gives on the pictures as they are and on covered ones."""
    began = time.perf_counter()
    best = train(settings, folder, console=Console(quiet=True))
    seconds = time.perf_counter() - began
    detector = load(best, "cpu")
    found = [evaluate(detector, each, warn=False).numbers for each in pictures]
    values = [numbers[name] for numbers in found for name in ("AP", "AP50")]
    return dict(zip(NUMBERS, values, strict=True)) | {"seconds": seconds}


def rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Of every data set, seed and kind, one after another."""
    sets = {"digits": digits(folder, options.small)}
    if options.cells:
        sets["cells"] = cells(options.cells, options.small)
    for name, (settings, held_out) in sets.items():
        write_occluded(held_out, folder / f"{name}-covered", options.share)
        covered = read_data(folder / f"{name}-covered", "test", class_names=held_out.class_names)
        iterations = options.iterations or settings.train.iterations // (SMALL if options.small else 1)
        for seed in range(options.seeds):
            for kind in options.kinds:
                chosen = changed(settings, kind, seed, iterations)
                found = run(chosen, [held_out, covered], folder / f"{name}-{kind}-{seed}")
                yield {"data": name, "kind": kind, "seed": seed, "iterations": iterations, **found}


def table(found: Sequence[Row], share: float) -> Table:
    made = Table(
        title=f"AP in %, mean over seeds (each seed); covered: {share:.0%} of each object", title_justify="left"
    )
    for column in ("", "adversary.kind", *NUMBERS, "minutes"):
        made.add_column(column, justify="left" if column in ("", "adversary.kind") else "right")
    for data, kind in dict.fromkeys((row["data"], row["kind"]) for row in found):
        chosen = [row for row in found if (row["data"], row["kind"]) == (data, kind)]
        cells = [f"{statistics.mean(row[name] for row in chosen) * 100:.1f}" for name in NUMBERS]
        each = [" ".join(f"{row[name] * 100:.1f}" for row in chosen) for name in NUMBERS]
        minutes = statistics.mean(row["seconds"] for row in chosen) / 60
        made.add_row(data, kind, *(f"{c} ({e})" for c, e in zip(cells, each, strict=True)), f"{minutes:.1f}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, metavar="BCCD", help="the folder of BCCD, to train on blood cells too")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--iterations", type=int, help="of each run, in place of the data set's own")
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rows here, after every run")
    options = parser.parse_args()
    console, found = Console(width=140), []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(options, Path(folder)):
            found.append(row)
            said = ", ".join(f"{name} {100 * row[name]:.1f}" for name in NUMBERS)
            console.print(f"{row['data']}, {row['kind']}, seed {row['seed']}: {said}; {row['seconds']:.0f} s")
            if options.json:
                measured.write(options.json, found)
    console.print(table(found, options.share))


if __name__ == "__main__":
    main()
