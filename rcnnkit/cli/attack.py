"""rcnnkit attack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Data, DataFormat, Device, Images, SkipBad, TestSplit, Weights, console, split_of
from rcnnkit.defaults import ATTACK, DEVICE, FORMAT
from rcnnkit.terminal import progress


def attack(
    weights: Weights,
    data: Data,
    eps: Annotated[int, typer.Option(min=1, max=255, help="The most that a pixel changes, grey levels of 255.")],
    out: Annotated[Path, typer.Option(help="A new folder for the pictures, their annotations and report.json.")],
    method: Annotated[str, typer.Option(help="fgsm, pgd or dag.")] = ATTACK,
    steps: Annotated[int, typer.Option(min=0, help="Of pgd, or the most of dag; 0: 10 and 150.")] = 0,
    split: TestSplit = None,
    images: Images = None,
    format: DataFormat = FORMAT,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    device: Device = DEVICE,
) -> None:
    """Adversarial pictures: changed so little that nobody sees it, and so that the detector errs.

    Average precision on them, beside that on the pictures as they are and with random changes of the same size, and the
    shares of objects that vanish or change their class, and of detections that stand on nothing. `rcnnkit evaluate` on
    the new folder tells whether another detector is misled too.
    """
    from rcnnkit.attacks.attack import attack as run
    from rcnnkit.data.reading import read_data
    from rcnnkit.tables import attack_table
    from rcnnkit.text import count
    from rcnnkit.weights import load, read_shapes

    if read_shapes(weights)[0]["kind"] == "classifier":
        raise ValueError(f"{weights} holds a classifier, and `rcnnkit attack` is for detectors; give one of these")
    split = split_of(data, split, "test")
    detector = load(weights, device, for_training=True)
    dataset = read_data(data, split, format=format, images=images, class_names=detector.class_names, skip_bad=skip_bad)
    with progress(console, transient=True) as report:
        result = run(detector, dataset, out, method=method, eps=eps, steps=steps, seed=seed, progress=report)
    console.print(attack_table(result))
    console.print(f"wrote {count(len(dataset), 'picture')}, annotations and report.json in {out}")
