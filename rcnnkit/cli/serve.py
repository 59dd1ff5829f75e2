"""rcnnkit serve."""

from __future__ import annotations

from typing import Annotated

import typer

from rcnnkit.cli.options import Device, MaxDetections, Port, Precision, Weights, console, finite
from rcnnkit.defaults import DEVICE, HOST, PORT, PRECISION
from rcnnkit.serving.limits import ServerLimits

USUAL = ServerLimits()


def serve(
    weights: Weights,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is every one.")] = HOST,
    port: Port = PORT,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with the detector.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that wait and go together, at most.")] = USUAL.batch,
    delay: Annotated[
        float, typer.Option(min=0, callback=finite, help="Milliseconds that a picture waits for others.")
    ] = USUAL.delay,
    max_megabytes: Annotated[float, typer.Option(min=0.001, callback=finite, help="Of a request.")] = USUAL.megabytes,
    max_megapixels: Annotated[float, typer.Option(min=0.001, callback=finite, help="Of a picture.")] = USUAL.megapixels,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests at a time in each process; more are refused.")
    ] = USUAL.waiting,
    timeout: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Seconds for a request, from its start to its answer.")
    ] = USUAL.seconds,
    root_path: Annotated[str, typer.Option(help="The path that a proxy strips, such as /cells.")] = "",
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    max_detections: MaxDetections = None,
) -> None:
    """Answer over HTTP: POST a picture to /detect, or open the page in a browser.

    SIGTERM and Ctrl-C end it, after the requests that have begun.
    """
    from rcnnkit.serving.server import Served, check_libraries, run_server

    check_libraries()
    limits = ServerLimits(batch, delay, max_megabytes, max_megapixels, max_waiting, timeout)
    served = Served(weights, device, precision, max_detections, root_path, limits)
    run_server(served, host, port, workers, lambda: console.print(f"serving {weights} at http://{host}:{port}"))
