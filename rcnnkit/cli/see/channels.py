"""rcnnkit see channels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Device, Files, NewPicture, Weights, check_picture, console, network_of
from rcnnkit.defaults import CHANNELS, DEVICE
from rcnnkit.terminal import progress

log = logging.getLogger("rcnnkit")


def channels(
    weights: Weights,
    files: Files,
    out: NewPicture,
    layer: Annotated[
        str | None, typer.Option(help="The layer: conv1, … or conv1_1, …; by default the last one.")
    ] = None,
    channel: Annotated[list[int] | None, typer.Option(help="A channel, counted from 0; may be repeated.")] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Without --channel: this many of the most active channels.")
    ] = CHANNELS,
    device: Device = DEVICE,
) -> None:
    """A sheet of what channels respond to: their nine strongest activations, projected back, beside the pictures.

    Zeiler and Fergus' deconvnet, for detectors and classifiers on AlexNet, CaffeNet, ZFNet, VGG_CNN_M_1024 and VGG. A
    picture that cannot be read is reported, the sheet shows the others, and the exit status is 1.
    """
    from rcnnkit.data.checks import pictures_in
    from rcnnkit.drawing import draw_sheet, save_picture, strongest_examples
    from rcnnkit.drawing.deconvnet import check_layer, layers
    from rcnnkit.drawing.strongest import NoActivations

    check_picture(out)
    paths = list(dict.fromkeys(pictures_in(files)))
    network = network_of(weights, device)
    try:
        backbone = network.get_submodule("backbone")
        layer = layer or list(layers(backbone))[-1]
        check_layer(backbone, layer, channel or ())
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
    pictures = list(filter(_readable, paths))
    try:
        with progress(console, transient=True) as report:
            examples = strongest_examples(network, pictures, layer, channels=channel, count=count, progress=report)
    except NoActivations as error:  # others name the picture
        raise ValueError(f"{weights}: {error}") from None
    console.print(f"wrote {save_picture(draw_sheet(examples, layer, network.preprocessing), out)}")
    if len(pictures) < len(paths):
        raise typer.Exit(1)


def _readable(picture: Path) -> bool:
    """Whether it is a whole picture; one that is not is reported."""
    from rcnnkit.images import read_picture

    try:
        read_picture(picture)
    except (OSError, ValueError) as error:
        log.error("left out: %s", error)
        return False
    return True
