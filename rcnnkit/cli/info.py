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
    from rcnnkit.about import about, summary

    told = about(weights)
    if as_json:
        print(json.dumps(told, indent=1).replace("\x7f", "\\u007f"))  # ASCII, which JSON escapes but for this one
    else:
        console.print(*summary(told), sep="\n")
