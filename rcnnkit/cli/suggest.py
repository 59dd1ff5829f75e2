"""rcnnkit suggest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Given, Minutes, Start, console


def suggest(
    data: Annotated[Path, typer.Argument(help="A data set: its folder or annotation file, in any format.")],
    settings: Given = None,
    start: Start = None,
    minutes: Minutes = None,
) -> None:
    """Choose settings for a data set and this machine, and print them as a file of settings, each with its reason.

    `rcnnkit train DATA` trains with the same settings.
    """
    from rcnnkit.training.suggest import suggest as suggest_settings

    suggestion = suggest_settings(data, settings or [], start=start, minutes=minutes)
    _ = suggestion.settings  # what was given may not fit
    console.print(*suggestion.toml.splitlines(), sep="\n")
