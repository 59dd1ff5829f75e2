"""rcnnkit demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Device, console
from rcnnkit.defaults import DEVICE


def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder; by default rcnnkit-demo.")] = None,
    only: Annotated[str | None, typer.Option(help="Train one detector only: rcnn, fast-rcnn or faster-rcnn.")] = None,
    device: Device = DEVICE,
) -> None:
    """Make pictures of handwritten digits, train the three detectors on them, and compare what they find."""
    from rcnnkit.demo import run_demo
    from rcnnkit.files import free_folder

    run_demo(out or free_folder(Path("rcnnkit-demo")), device, console, only)
