"""rcnnkit benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.benchmark.options import Options
from rcnnkit.cli.options import Batch, Device, Images, Precision, console, split_of

DEFAULTS = Options()


def benchmark(
    out: Annotated[Path | None, typer.Option(help="A new folder; by default rcnnkit-benchmark.")] = None,
    demo: Annotated[
        Path,
        typer.Option(
            help="The demo's folder, whose detectors and pictures are used. If it is missing, the demo runs first."
        ),
    ] = DEFAULTS.demo,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Detectors to compare in place of the demo's, one file of each kind; may be repeated."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="An exported file, or a folder of them, to measure too; may be repeated."),
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Use untrained detectors: the times are measured, the accuracy is not.")
    ] = False,
    backbone: Annotated[
        str, typer.Option(help="The backbone of --random: resnet18 (the default), resnet50, vgg16, …")
    ] = DEFAULTS.backbone,
    data: Annotated[
        Path | None, typer.Option(help="Other pictures: a folder, or annotated ones in VOC's or COCO's (.json) format.")
    ] = None,
    images: Images = None,
    split: Annotated[str | None, typer.Option(help="The split of a VOC folder.", show_default="test")] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Most pictures, spread evenly over all of them; 10 or more, or 0: all.")
    ] = DEFAULTS.limit,
    batch: Batch = DEFAULTS.batch,
    max_proposals: Annotated[
        int, typer.Option(min=0, help="Most proposals per picture; 0: each detector's own limit.")
    ] = DEFAULTS.max_proposals,
    device: Device = DEFAULTS.device,
    precision: Precision = DEFAULTS.precision,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: as many as torch chooses.")] = DEFAULTS.threads,
    growth: Annotated[
        bool,
        typer.Option(
            "--growth", help="Measure also how times grow with proposals, classes, sizes, batches and threads."
        ),
    ] = False,
) -> None:
    """Seconds a picture of R-CNN, Fast R-CNN and Faster R-CNN, stage by stage, on the same pictures.

    Writes results.json, report.md, report.html and plots. Ctrl-C stops it, with a report of what was measured so far.
    """
    from rcnnkit.benchmark.run import run_benchmark
    from rcnnkit.files import free_folder

    if images and not data:
        raise typer.BadParameter("--data names the pictures now; --images is where those of a COCO file are")
    options = Options(
        demo=demo,
        random=random,
        backbone=backbone,
        data=data,
        images=images,
        split=split_of(data or Path(), split, "test"),
        weights=tuple(weights or ()),
        also=tuple(also or ()),
        device=device,
        precision=precision,
        max_proposals=max_proposals,
        batch=batch,
        threads=threads,
        limit=limit,
        growth=growth,
    )
    run_benchmark(options, out or free_folder(Path("rcnnkit-benchmark")), console)
