"""rcnnkit label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import (
    DataFormat,
    Device,
    Images,
    MaxDetections,
    Precision,
    SkipBad,
    Split,
    console,
    finite,
    split_of,
)
from rcnnkit.defaults import DEVICE, FORMAT, PRECISION
from rcnnkit.terminal import progress


def label(
    data: Annotated[
        Path,
        typer.Argument(help="A folder of pictures without annotations; or a data set, as a folder or annotation file."),
    ],
    weights: Annotated[Path, typer.Option(help="A .safetensors file that rcnnkit wrote.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    to: Annotated[str, typer.Option(help="What is written: coco, voc, yolo or label_studio.")] = "coco",
    split: Split = None,
    labelled: Annotated[
        Path | None,
        typer.Option(
            help="A data set, whose split train is labelled already: its pictures are left out, and those that are like"
            " them come late. Or a folder of pictures."
        ),
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="Write so many pictures, those that teach most. By default all.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Detections from this score on become labels. By default 0.5, or 0 for the margins of SVMs.",
        ),
    ] = None,
    images: Images = None,
    data_format: DataFormat = FORMAT,
    link: Annotated[
        str | None, typer.Option(help="hard or symbolic: link to the pictures instead of copying them.")
    ] = None,
    skip_bad: SkipBad = False,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    max_detections: MaxDetections = None,
) -> None:
    """Label pictures by what a detector finds, and say which of them a person should correct first.

    Those come first that the detector is unsure of and that are not like the ones before.
    """
    from rcnnkit.data.convert import LINKS
    from rcnnkit.files import check_free
    from rcnnkit.labelling.label import FORMATS, ORDER, write_labelled
    from rcnnkit.labelling.label import label as label_pictures
    from rcnnkit.labelling.pictures import read_any, with_detectors_classes
    from rcnnkit.text import count
    from rcnnkit.weights import load

    for name, value, known in (("--to", to, FORMATS), ("--link", link, LINKS)):
        if value is not None and value not in known:
            raise ValueError(f"{name} {value} is not one of {', '.join(known)}")
    check_free(out)
    detector = load(weights, device, precision, max_detections)
    if min_score is not None and not (detector.scores_are_margins or 0 <= min_score <= 1):
        raise ValueError(f"--min-score {min_score:g}: the scores of {weights} are probabilities; give 0 to 1")
    if split is not None:
        split_of(data, split, split)
    pictures = read_any(data, split, format=data_format, images=images, skip_bad=skip_bad)
    ids = detector.category_ids or range(1, len(detector.class_names) + 1)
    with_detectors_classes(pictures, detector.class_names, ids)
    known_pictures = read_any(labelled, format=data_format, skip_bad=skip_bad) if labelled else None
    with progress(console, transient=True) as report:
        result = label_pictures(detector, pictures, known_pictures, first=first, min_score=min_score, report=report)
    notes = write_labelled(result, to, out, weights=str(weights), link=link)
    for note in notes:
        console.print(f"note: {note}")
    for rank in range(min(3, len(result.dataset))):
        path, unsure = result.dataset.records[rank].path, result.uncertainties[rank]
        console.print(f"{rank + 1}. {path} (uncertainty {unsure:.2f}, {count(len(result.scores[rank]), 'object')})")
    many = f"{count(len(result.dataset), 'picture')} and {count(result.objects, 'object')}"
    console.print(f"wrote {many} in {out} as {FORMATS[to]}, in the order of {out / ORDER}.csv")
