"""rcnnkit ground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Device, JsonFile, Precision, Sentence, Weights, check_picture, console, finite
from rcnnkit.defaults import BETA, DEVICE, PRECISION


def ground(
    weights: Weights,
    picture: Annotated[Path, typer.Argument(help="The picture that the sentence is about.")],
    sentence: Sentence,
    out: Annotated[
        Path | None,
        typer.Option(help="A new picture with a box for each region that is spoken of, and the words; .png, .jpg, …"),
    ] = None,
    json_file: JsonFile = None,
    beta: Annotated[
        float,
        typer.Option(
            min=0, callback=finite, help="How much neighbouring words like to speak of one region; 0: each for itself."
        ),
    ] = BETA,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """Which region of a picture each word of a sentence speaks of: printed, drawn and as JSON."""
    import math

    from rcnnkit.drawing import draw, save_picture
    from rcnnkit.files import check_new, write_json
    from rcnnkit.tables import grounding_table
    from rcnnkit.weights import load_aligner

    if out:
        check_picture(out)
    if json_file:
        check_new(json_file)
    aligner = load_aligner(weights, device, precision)
    if unknown := aligner.unknown(sentence):
        console.print(f"note: not learnt, so the words around them decide: {', '.join(unknown)}")
    grounding = aligner.ground(picture, sentence, beta=beta)
    console.print(grounding_table(grounding))
    if json_file:
        write_json(json_file, {"picture": str(picture), "sentence": sentence, **grounding.to_json()})
        console.print(f"wrote {json_file}")
    if out:
        drawing = draw(picture, grounding.detections(), min_score=-math.inf)
        console.print(f"wrote {save_picture(drawing, out)}")
