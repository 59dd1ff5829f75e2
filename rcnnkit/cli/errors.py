"""Errors in words, on stderr."""

from __future__ import annotations

import os
import traceback

from rich.text import Text

from rcnnkit.terminal import Console
from rcnnkit.text import set_in


def complain(error: BaseException | str) -> None:
    """Print an error; where RCNNKIT_TRACEBACK is set, where it came from, too."""
    if isinstance(error, OSError) and error.filename and error.strerror:  # the system's, in the words of the others
        error = f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    if "RCNNKIT_TRACEBACK" in os.environ:
        traceback.print_exc()
    Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {set_in(str(error))}"))
