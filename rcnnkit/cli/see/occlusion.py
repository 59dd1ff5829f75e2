"""rcnnkit see occlusion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Batch, Device, NewPicture, Precision, Weights, check_picture, console
from rcnnkit.defaults import DEVICE, OCCLUDED, PRECISION
from rcnnkit.terminal import progress


def occlusion(
    weights: Weights,
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    out: NewPicture,
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="X1 Y1 X2 Y2", help="The box, in pixels; by default that of the best detection."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--class", help="The class; by default the best detection's, or the best one at --box."),
    ] = None,
    square: Annotated[
        int, typer.Option(min=0, help="The sides of the grey square, pixels; 0: a third of the box's sides.")
    ] = 0,
    stride: Annotated[
        int, typer.Option(min=0, help="How far the square moves in one step, pixels; 0: half its side.")
    ] = 0,
    batch: Batch = OCCLUDED,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """A map of what a detection's score depends on: how it falls as a grey square slides over the picture.

    Zeiler and Fergus' occlusion, for every detector.
    """
    from rcnnkit.drawing import draw_occlusion, save_picture
    from rcnnkit.drawing import occlusion as find
    from rcnnkit.weights import load, read_shapes

    check_picture(out)
    if read_shapes(weights)[0]["kind"] == "classifier":
        raise ValueError(
            f"{weights} holds a classifier, and `rcnnkit see occlusion` is for detectors; give one of these"
        )
    detector = load(weights, device, precision)
    if box is None:
        detections = detector(picture)
        detections = detections if name is None else detections.of(name)
        if not len(detections):
            raise ValueError(f"nothing{f' called {name}' if name else ''} is found in {picture}; say where with --box")
        (name, _, box), *_ = detections
    with progress(console, transient=True) as report:
        heat = find(detector, picture, box, name, square=square, stride=stride, batch=batch, progress=report)
    file = save_picture(draw_occlusion(heat), out)
    console.print(
        f"{heat.name} scores {heat.score:.3f}; with a square of {heat.square} pixels, {heat.scores.min():.3f} to"
        f" {heat.scores.max():.3f}"
    )
    console.print(f"wrote {file}")
