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
    from rcnnkit.files import free_folder
    from rcnnkit.training.alternating import train_alternating
    from rcnnkit.training.classification import train_classifier
    from rcnnkit.training.loop import train as train_detector
    from rcnnkit.training.rcnn_stages import train_rcnn
    from rcnnkit.training.run_folder import checkpoint_of

    read = read_settings(config, settings or [])
    if read.train.resume:
        run = checkpoint_of(read.train.resume).parent
        if out and out.resolve() != run.resolve():
            raise ValueError(f"train.resume continues in {run}; leave out --out {out}")
    else:
        name = config.parent.name if config.name == "settings.toml" else config.stem  # another run's settings
        run = out or free_folder(Path("runs") / name)
    if read.model.detector == "rcnn":
        best = train_rcnn(read, run, console)
    elif read.model.detector == "classifier":
        best = train_classifier(read, run, console)
    else:
        best = (train_alternating if read.alternating.enabled else train_detector)(read, run, console)
    console.print(f"wrote {best}")
