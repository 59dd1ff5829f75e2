"""rcnnkit train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import CheckPictures, Given, Minutes, Start, console
from rcnnkit.defaults import CHECK_PICTURES

UNCHECKED = "data.check_pictures=false"


def train(
    config: Annotated[
        Path,
        typer.Argument(help="A data set, for which settings are chosen as `suggest` does; or a TOML file of settings."),
    ],
    settings: Given = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the run; by default one in runs/, named after CONFIG.")
    ] = None,
    start: Start = None,
    minutes: Minutes = None,
    check_pictures: CheckPictures = CHECK_PICTURES,
    only_check: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be trained, and whether it fits into memory; write nothing."),
    ] = False,
) -> None:
    """Train a detector, or a classifier to start a detector from. Weights, settings and log go into the run's folder.

    Under torchrun, on one machine or several, all processes train one model.
    """
    from rcnnkit.training.ranks import joined
    from rcnnkit.training.run_folder import checkpoint_of
    from rcnnkit.training.suggest import settings_of
    from rcnnkit.training.train import dry_run, run_folder
    from rcnnkit.training.train import train as train_model

    with joined() as ranks:
        console.quiet = not ranks.first
        given = [*(settings or []), *([] if check_pictures else [UNCHECKED])]
        run_settings, suggestion = settings_of(config, given, start=start, minutes=minutes)
        if suggestion:
            console.print(*suggestion.toml.splitlines(), "", sep="\n")
        run = out or run_folder(run_settings, config)
        resume = run_settings.train.resume
        if resume and run.resolve() != (folder := checkpoint_of(resume).parent).resolve():
            raise ValueError(f"train.resume continues in {folder}; leave out --out {out}")
        notes = suggestion.notes if suggestion else {}
        if only_check:
            dry_run(run_settings, run, console=console, notes=notes)
        else:
            notes = suggestion.notes if suggestion else {}
            console.print(f"wrote {train_model(run_settings, run, console=console, notes=notes)}")
