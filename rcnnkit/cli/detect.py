"""rcnnkit detect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.errors import complain
from rcnnkit.cli.options import (
    Batch,
    Device,
    Files,
    InputSettings,
    MaxDetections,
    Precision,
    Weights,
    console,
    finite,
    input_of,
)
from rcnnkit.defaults import BATCH, DEVICE, PRECISION
from rcnnkit.text import count


def detect(
    weights: Weights,
    files: Files,
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for the pictures with boxes, in the same sub-folders, and for detections.json; existing"
            " files are not overwritten."
        ),
    ],
    min_score: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="The least score of boxes that are drawn; by default 0.5, or 0 for the margins of SVMs.",
        ),
    ] = None,
    max_detections: MaxDetections = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="A file in COCO's format with the pictures' ids, which the results get."),
    ] = None,
    set_: InputSettings = None,
    batch: Batch = BATCH,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """Find things: pictures with boxes, and one JSON file in COCO's results format.

    A result's image_id is the path of its picture as it was given, or its id with --ids. A picture
    that cannot be read, searched or drawn is reported, the others are finished, and the exit status
    is 1. Other files in the folders are counted in one line.
    """
    from rcnnkit.data.image_ids import read_image_ids
    from rcnnkit.detecting import RESULTS, DetectedFile, detect_files
    from rcnnkit.weights import load

    image_ids = read_image_ids(ids) if ids else None
    detector = load(weights, device, precision, max_detections, input=input_of(set_))
    if min_score is not None and not (detector.scores_are_margins or 0 <= min_score <= 1):
        raise ValueError(f"--min-score {min_score:g}: the scores of {weights} are probabilities; give 0 to 1")
    least = detector.min_score if min_score is None else min_score

    def report(picture: DetectedFile) -> None:
        if picture.error:
            complain(picture.error)
        else:
            console.print(picture.summary(least))

    pictures = detect_files(detector, files, out, min_score=least, batch=batch, image_ids=image_ids, report=report)
    if found := [len(picture.detections) for picture in pictures if picture.detections is not None]:
        drawn = sum(picture.drawn is not None for picture in pictures)
        console.print(f"wrote {count(drawn, 'picture')} and {count(sum(found), 'detection')} in {out / RESULTS}")
    if any(picture.error for picture in pictures):
        raise typer.Exit(1)
