"""rcnnkit demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcnnkit.cli.options import Device, Port, console
from rcnnkit.defaults import DEVICE, HOST, PORT

FOLDER = Path("rcnnkit-demo")


def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder; by default rcnnkit-demo.")] = None,
    only: Annotated[str | None, typer.Option(help="Train one detector only: rcnn, fast-rcnn or faster-rcnn.")] = None,
    ui: Annotated[
        bool,
        typer.Option(
            "--ui",
            help="Then show a detector on a page, where you drop pictures and see how objects are found. If the demo in"
            " the folder has finished before, show the page at once.",
        ),
    ] = False,
    port: Port = PORT,
    device: Device = DEVICE,
) -> None:
    """Make pictures of handwritten digits, train the three detectors on them, and compare what they find."""
    from rcnnkit.demo import finished, run_demo
    from rcnnkit.files import free_folder
    from rcnnkit.serving.server import Served, check_libraries, run_server

    if ui:
        check_libraries()
    folder = out or (FOLDER if ui and finished(FOLDER, only) else free_folder(FOLDER))
    if not (ui and finished(folder, only)):
        run_demo(folder, device, console, only)
    if ui and (weights := finished(folder, only)):
        pictures = folder / "data" / "JPEGImages"
        said = f"open http://{HOST}:{port} and drop a picture of {pictures} there; Ctrl-C ends it"
        run_server(Served(weights, device), HOST, port, 1, lambda: console.print(said))
