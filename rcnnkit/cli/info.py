"""rcnnkit info."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rcnnkit.cli.options import Weights, console


def info(
    weights: Weights,
    as_json: Annotated[bool, typer.Option("--as-json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Say what a weights file is: network, classes, input, training, origin and licence."""
    from rcnnkit.info import describe, summary

    description = describe(weights)
    if as_json:
        text = json.dumps(description, indent=1)
        print(text.replace("\x7f", "\\u007f"))  # of ASCII, JSON escapes all but this one
    else:
        console.print(*summary(description), sep="\n")
