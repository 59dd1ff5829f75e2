"""rcnnkit train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import console


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file of settings, such as those in configs/.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.KEY=VALUE]…", help="Settings that override the file's."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default a new one in runs/, named after CONFIG.")
    ] = None,
) -> None:
    """Train a detector, or a classifier to start one from; weights, settings and log go into a folder of its own."""
    from rcnnkit.config_files import read_settings
    from rcnnkit.training.run_folder import checkpoint_of
    from rcnnkit.training.train import run_folder
    from rcnnkit.training.train import train as train_model

    read = read_settings(config, settings or [])
    run = out or run_folder(read, config)
    if read.train.resume and run.resolve() != (folder := checkpoint_of(read.train.resume).parent).resolve():
        raise ValueError(f"train.resume continues in {folder}; leave out --out {out}")
    console.print(f"wrote {train_model(read, run, console=console)}")
