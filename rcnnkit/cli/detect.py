"""rcnnkit detect."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.errors import complain
from rcnnkit.cli.options import (
    Batch,
    Device,
    InputSettings,
    MaxDetections,
    Precision,
    Weights,
    console,
    finite,
    input_of,
)
from rcnnkit.defaults import BATCH, DEVICE, PRECISION
from rcnnkit.terminal import progress


def detect(
    weights: Weights,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, videos, folders of them with their sub-folders, globs in quotes ('in/**/*.png'), URLs, and"
            " cameras (camera:0, rtsp://…)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the pictures and videos with boxes, in the same sub-folders, and for detections.json;"
            " existing files are not overwritten."
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Write all detections here, in the format of the ending: .json (COCO's), .csv or .parquet."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="The format of the results: coco, csv, parquet; or yolo or voc, a data set of the pictures and of what"
            " scores --min-score, in the folder --results."
        ),
    ] = None,
    crop: Annotated[
        Path | None, typer.Option(help="A new folder for a picture of each object, in a folder of its class.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="The least score of what is drawn, cut out or in a data set; by default 0.5, or 0 for the margins of"
            " SVMs.",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Most frames of each video or camera; by default all, until Ctrl-C.")
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
    """Find things in pictures, videos and cameras: drawn, as a table, as a data set, or cut out.

    A result's image_id is the path of its picture as it was given, or its id with --ids. A picture
    that cannot be read, searched or drawn is reported, the others are finished, and the exit status
    is 1. Other files in the folders are counted in one line. Ctrl-C ends after the batch, and what
    was found is written; a second one ends at once.
    """
    from rcnnkit.data.image_ids import read_image_ids
    from rcnnkit.detecting.files import detect_and_write
    from rcnnkit.detecting.outputs import Outputs, Writer
    from rcnnkit.detecting.tally import Tally
    from rcnnkit.training.stopping import stop_signals
    from rcnnkit.weights import load

    if out is None and results is None and crop is None:
        raise ValueError("nothing would be written; give --out FOLDER, --results FILE or --crop FOLDER")
    image_ids = read_image_ids(ids) if ids else None
    detector = load(weights, device, precision, max_detections, input=input_of(set_))
    if min_score is not None and not (detector.scores_are_margins or 0 <= min_score <= 1):
        raise ValueError(f"--min-score {min_score:g}: the scores of {weights} are probabilities; give 0 to 1")
    writer = Writer(Outputs(out, results, format, crop, min_score, image_ids), detector)
    tally, live = Tally(writer.least), False
    found = detect_and_write(detector, sources, writer, batch, frames)
    with stop_signals() as stop, progress(console, transient=True) as report, closing(found):
        for picture in found:
            for line in tally.add(picture):
                console.print(line)
            if picture.error:
                complain(picture.error)
            if picture.frame:
                report("frames", picture.frame.number + 1, picture.frame.count)  # of one video after another
                live = picture.frame.live
            if stop.signal:
                break
    for line in [*tally.end(), *tally.written(writer)]:
        console.print(line)
    if stop.signal and not (live and stop.signal == signal.SIGINT):  # which is how a camera ends
        raise typer.Exit(128 + stop.signal)
    if tally.failed:
        raise typer.Exit(1)
