"""rcnnkit import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import NewWeights, console, finite


def import_(
    source: Annotated[
        str, typer.Argument(help="The name of torchvision's weights, or a file: .pth, .pt, .ckpt, .pkl, .safetensors.")
    ],
    out: NewWeights,
    classes: Annotated[
        str | None,
        typer.Option(
            help='The class names, if the source has none: "cat,dog,…", or a file with one name in each line.'
        ),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of the weights; it is kept in the file.")] = None,
    norm_eps: Annotated[
        float | None,
        typer.Option(
            min=0,
            callback=finite,
            help="What batch norms add to the variance; 0 for weights that you trained from torchvision's COCO_V1.",
        ),
    ] = None,
) -> None:
    """Take over weights from elsewhere, with the same answers: torchvision's and detectron2's."""
    from rcnnkit.importing.convert import import_weights

    import_weights(source, out, None if classes is None else _class_names(classes), licence, norm_eps)
    console.print(f"wrote {out}")


def _class_names(classes: str) -> list[str]:
    """Names between commas, or those in a file's lines."""
    try:
        is_file = Path(classes).is_file()
    except OSError:  # many names are longer than a path can be
        is_file = False
    if is_file:
        try:
            lines = Path(classes).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"--classes {classes} is not UTF-8 text ({error}); save it as UTF-8") from None
        return [line.strip() for line in lines if line.strip()]
    if "," not in classes and re.search(r"[/\\]|\.\w+$", classes):
        raise FileNotFoundError(f"--classes {classes}: no such file; give a file with one name in each line, or a,b,…")
    names = [name.strip() for name in classes.split(",")]
    if "" in names:
        raise ValueError(f'--classes "{classes}" has an empty name; give one between every two commas')
    return names
