"""rcnnkit train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcnnkit.cli.options import Given, Minutes, Start, console

if TYPE_CHECKING:
    from rcnnkit.config import Settings


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
    from rcnnkit.training.train import dry_run, run_folder
    from rcnnkit.training.train import train as train_model

    with joined() as ranks:
        console.quiet = not ranks.first
        read, notes = _settings(config, settings or [], start, minutes)
        run = out or run_folder(read, config)
        if read.train.resume and run.resolve() != (folder := checkpoint_of(read.train.resume).parent).resolve():
            raise ValueError(f"train.resume continues in {folder}; leave out --out {out}")
        if only_check:
            dry_run(read, run, console=console, notes=notes)
        else:
            console.print(f"wrote {train_model(read, run, console=console, notes=notes)}")


def _settings(
    config: Path, given: list[str], start: str | None, minutes: float | None
) -> tuple[Settings, Mapping[str, str]]:
    """Those of a file, or those that are chosen for a data set, which are shown."""
    from rcnnkit.config_files import read_settings
    from rcnnkit.training.suggest import is_data, suggest

    if is_data(config):
        suggestion = suggest(config, given, start=start, minutes=minutes)
        console.print(*suggestion.toml.splitlines(), "", sep="\n")
        return suggestion.settings, suggestion.notes
    for flag, value, setting in (("--start", start, "train.init"), ("--minutes", minutes, "train.iterations")):
        if value is not None:
            raise ValueError(f"{flag} {value} is for a data set, and {config} is not one; set {setting} instead")
    return read_settings(config, given), {}
