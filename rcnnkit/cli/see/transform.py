"""rcnnkit see transform."""

from __future__ import annotations

from typing import Annotated

import typer

from rcnnkit.cli.options import Device, Files, NewPicture, Weights, check_picture, console, network_of
from rcnnkit.defaults import DEVICE, LOOKS
from rcnnkit.terminal import progress


def transform(
    weights: Weights,
    files: Files,
    out: NewPicture,
    min_score: Annotated[
        float | None, typer.Option(help="Of a detector's windows, the least score; by default that of drawn boxes.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Windows, at most.")] = LOOKS,
    device: Device = DEVICE,
) -> None:
    """A sheet of what a spatial transformer does: each window with the quadrilateral that is read, and what the network
    then sees.

    Windows are those of the detections, or of a classifier its whole picture.
    """
    from rcnnkit.data.checks import pictures_in
    from rcnnkit.drawing import draw_looks, looks, save_picture
    from rcnnkit.drawing.transformed import transformer_of
    from rcnnkit.progress import reported
    from rcnnkit.text import count as counted

    check_picture(out)
    pictures = list(dict.fromkeys(pictures_in(files)))
    network = network_of(weights, device)
    try:
        transformer_of(network)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
    windows = []
    with progress(console, transient=True) as report:
        for picture in reported(pictures, "pictures", report):
            windows += looks(network, picture, min_score)
            if len(windows) >= count:
                break
    if not windows:
        raise ValueError("nothing is found in these pictures; give other ones, or a lower --min-score")
    file = save_picture(draw_looks(windows[:count]), out)
    console.print(f"wrote {counted(len(windows[:count]), 'window')} to {file}")
