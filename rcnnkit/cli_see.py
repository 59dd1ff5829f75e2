"""rcnnkit see …: what networks look at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.terminal import Console

app = typer.Typer(
    help="See what the channels of a network respond to, and which part of a picture a detection depends on.",
    no_args_is_help=True,
)
log = logging.getLogger("rcnnkit")
console = Console()

WRITTEN = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Weights = Annotated[Path, typer.Argument(help="A .safetensors file of rcnnkit.")]
Out = Annotated[Path, typer.Option(help="The new picture: .png, .jpg, …")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]


@app.command()
def channels(
    weights: Weights,
    files: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures, with their sub-folders.")],
    out: Out,
    layer: Annotated[str | None, typer.Option(help="conv1, … or conv1_1, …; by default the last one.")] = None,
    channel: Annotated[list[int] | None, typer.Option(help="One channel, from 0 on; may be given again.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Else as many of the most active channels.")] = 16,
    device: Device = "auto",
) -> None:
    """A sheet of what channels respond to: their nine strongest activations, projected back, beside the pictures.

    Zeiler and Fergus' deconvnet, for detectors and classifiers on AlexNet, CaffeNet, ZFNet, VGG_CNN_M_1024 and VGG. A
    picture that cannot be read is named, the sheet is of the others, and the exit status is 1.
    """
    from rcnnkit.data.checks import pictures_in
    from rcnnkit.drawing import draw_sheet, save_picture, strongest_examples
    from rcnnkit.drawing.deconvnet import check_layer, layers
    from rcnnkit.drawing.strongest import NoActivations
    from rcnnkit.weights import load, load_classifier, read_shapes

    _check_out(out)
    given = list(dict.fromkeys(pictures_in(files)))
    kind = read_shapes(weights)[0].get("detector")
    network = load_classifier(weights, device) if kind == "classifier" else load(weights, device, for_training=True)
    try:
        backbone = network.get_submodule("backbone")
        layer = layer or list(layers(backbone))[-1]
        check_layer(backbone, layer, channel or ())
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
    pictures = list(filter(_readable, given))
    try:
        examples = strongest_examples(
            network, pictures, layer, channels=channel, count=count, progress=console.is_terminal
        )
    except NoActivations as error:  # others name the picture
        raise ValueError(f"{weights}: {error}") from None
    console.print(f"wrote {save_picture(draw_sheet(examples, layer, network.preprocessing), out)}")
    if len(pictures) < len(given):
        raise typer.Exit(1)


def _readable(picture: Path) -> bool:
    """Whether it is a whole picture; what is none is named."""
    from rcnnkit.images import read_picture

    try:
        read_picture(picture)
    except (OSError, ValueError) as error:
        log.error("left out: %s", error)
        return False
    return True


@app.command()
def occlusion(
    weights: Weights,
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    out: Out,
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="X1 Y1 X2 Y2", help="In pixels; by default that of the best detection."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--class", help="By default the best detection's, or the one best at --box.")
    ] = None,
    square: Annotated[int, typer.Option(min=0, help="Its sides, pixels; 0: a third of the box's.")] = 0,
    stride: Annotated[int, typer.Option(min=0, help="From place to place, pixels; 0: half the square.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto (bf16 where it is fast), float32, bf16, fp16.")] = "auto",
) -> None:
    """A map of what a detection's score depends on: how it falls as a grey square slides over the picture.

    Zeiler and Fergus' occlusion, for every detector.
    """
    from rcnnkit.drawing import draw_occlusion, save_picture
    from rcnnkit.drawing import occlusion as find
    from rcnnkit.weights import load, read_shapes

    _check_out(out)
    if read_shapes(weights)[0].get("detector") == "classifier":
        raise ValueError(
            f"{weights} holds a classifier, and `rcnnkit see occlusion` is for detectors; give one of these"
        )
    detector = load(weights, device, precision)
    if box is None:
        found = detector(picture)
        found = found if name is None else found.of(name)
        if not len(found):
            raise ValueError(f"nothing{f' called {name}' if name else ''} is found in {picture}; say where with --box")
        (name, _, box), *_ = found
    shown = find(detector, picture, box, name, square=square, stride=stride, batch=batch, progress=console.is_terminal)
    file = save_picture(draw_occlusion(shown), out)
    console.print(
        f"{shown.name} scores {shown.score:.3f}; with a square of {shown.square} pixels, {shown.scores.min():.3f} to"
        f" {shown.scores.max():.3f}"
    )
    console.print(f"wrote {file}")


def _check_out(out: Path) -> None:
    """Raise unless a new picture can be written there; before anything is computed."""
    from rcnnkit.files import check_new

    if out.suffix.lower() not in WRITTEN:
        raise ValueError(f"--out {out} does not end in one of {', '.join(WRITTEN)}")
    check_new(out)
