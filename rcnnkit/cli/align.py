"""rcnnkit align."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Images, SkipBad, Weights, console


def align(
    weights: Weights,
    data: Annotated[
        Path,
        typer.Argument(help="Pictures with sentences, in COCO's captions format: the folder, or an annotation file."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SECTION.KEY=VALUE]…", help="Settings that override the detector's own and those of the training."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the run; by default one in runs/, named after DATA.")
    ] = None,
    images: Images = None,
    skip_bad: SkipBad = False,
    only_check: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and what is wrong; write nothing.")
    ] = False,
) -> None:
    """Train what tells which region of a picture each word of a sentence speaks of.

    The regions are those of a trained detector, which stays as it is. No boxes are needed beside the sentences.
    `ground` and `search` use the weights. The run goes on with `rcnnkit train RUN/settings.toml train.resume=RUN`.
    """
    from rcnnkit.training.alignment_settings import align_settings
    from rcnnkit.training.train import dry_run, run_folder, train

    chosen = align_settings(weights, data, settings or [], images=images, skip_bad=skip_bad)
    run = out or run_folder(chosen, data)
    if only_check:
        dry_run(chosen, run, console=console)
    else:
        console.print(f"wrote {train(chosen, run, console=console)}")
