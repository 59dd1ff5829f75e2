"""What a benchmark is of: the detectors and the pictures that were asked for."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rcnnkit.benchmark.measure.contenders import Contender, trained, untrained
from rcnnkit.benchmark.measure.pictures import read_pictures
from rcnnkit.benchmark.options import Options
from rcnnkit.data.digits import write_digits
from rcnnkit.data.records import Dataset
from rcnnkit.demo import run_demo
from rcnnkit.detectors.kinds import DETECTORS

BACKBONE = "resnet18"  # of untrained detectors, where nothing else is asked for


def choose(options: Options, out: Path, console: Console) -> tuple[list[Contender], Dataset, bool]:
    """The detectors, the pictures, and whether there is an accuracy to report.

    Args:
        out: where the demo's pictures are drawn, in data/, if they are wanted and not there.

    Raises:
        FileNotFoundError, ValueError: options that exclude each other, or as `trained`, `untrained`, `read_pictures`.
    """
    if options.random and options.weights:
        raise ValueError("--random and --weights exclude each other: leave one out")
    if options.weights and not options.data:
        raise ValueError("--weights needs pictures to detect in: give --data; the accuracy needs annotated ones")
    files = list(options.weights)
    if not files and not options.random:
        if not options.demo.exists():
            console.print(f"{options.demo} is missing, so the demo runs first, which takes some minutes")
            run_demo(options.demo, options.device, console)
        files = [options.demo / name / "best.safetensors" for name in DETECTORS]
        if missing := [file for file in files if not file.is_file()]:
            raise FileNotFoundError(
                f"{missing[0]} is not there; train the whole demo with `rcnnkit demo --out FOLDER`, name it with"
                " --demo, or use --weights or --random"
            )
    contenders = trained(files)
    backbones = {contender.settings.model.backbone for contender in contenders}
    if contenders and options.backbone and {options.backbone} != backbones:
        raise ValueError(
            f"--backbone {options.backbone}, but {contenders[0].weights} has {', '.join(backbones)}; add --random, or"
            " give --weights with that backbone"
        )
    names = contenders[0].class_names if contenders else None
    if options.data:
        data, annotated = read_pictures(options.data, options.split, names, options.limit, options.images)
    else:
        root = options.demo / "data"
        if not root.is_dir():  # untrained detectors need no demo but its pictures
            root = out / "data"
            write_digits(root, train=1)
        data, annotated = read_pictures(root, "val", names, options.limit)
    if not contenders:
        contenders = untrained(options.backbone or BACKBONE, data.class_names or [f"class {i}" for i in range(1, 21)])
    return contenders, data, annotated and not options.random
