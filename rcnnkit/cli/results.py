"""How commands that measure end: with numbers on the terminal and, where asked for, in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from rcnnkit.cli.options import console


def show(renderables: Sequence[RenderableType], values: Mapping[str, Any], file: Path | None) -> None:
    """Print results, and write their values as JSON into a new file, if there is to be one.

    Raises:
        OSError: the file cannot be written; the results are printed before.
    """
    from rcnnkit.files import write_json

    try:
        if file:
            write_json(file, values)
    finally:
        for each in renderables:
            console.print(each)
    if file:
        console.print(f"wrote {file}")
