"""The processes that serve: uvicorn's, each with a detector of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rcnnkit.defaults import DEVICE, PRECISION
from rcnnkit.serving.limits import ServerLimits
from rcnnkit.weights import load

GIVEN = "RCNNKIT_SERVED"  # in JSON, for the worker processes alone
LIBRARIES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
KEEP_ALIVE = 75  # seconds of an idle connection; longer than a proxy keeps it, which else meets a closed one
SLOW_START = 120  # seconds for a worker to import torch


@dataclass(frozen=True, slots=True)
class Served:
    """What each worker serves."""

    weights: Path
    device: str = DEVICE
    precision: str = PRECISION
    max_detections: int | None = None
    root_path: str = ""
    limits: ServerLimits = field(default_factory=ServerLimits)

    def application(self) -> Any:
        """Raises as `rcnnkit.load` and `rcnnkit.serving.application.application` do."""
        from rcnnkit.serving.application import application

        detector = load(self.weights, self.device, self.precision, self.max_detections)
        return application(detector, self.limits, self.root_path)


def check_libraries() -> None:
    """Raise ValueError unless all libraries are installed."""
    if missing := [name for module, name in LIBRARIES.items() if not find_spec(module)]:
        raise ValueError(f"a server needs {', '.join(missing)}, not installed here: pip install 'rcnnkit[serve]'")


def run_server(served: Served, host: str, port: int, workers: int, ready: Callable[[], object] | None = None) -> None:
    """Answer until SIGTERM or Ctrl-C, and then requests that have begun.

    Args:
        host, port: to listen at.
        workers: processes, which share the CPU's threads.
        ready: is called when everything has been loaded once.

    Raises:
        OSError: the port cannot be had.
        ValueError: a library is missing; and as `Served.application`.
    """
    check_libraries()
    import uvicorn

    _check_port(host, port)
    app = served.application()
    if ready:
        ready()
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "log_config": None,  # warnings and errors go to stderr
        "access_log": False,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": int(served.limits.seconds) + 1,
        "server_header": False,
    }
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn sends it once more when it has ended
    try:
        if workers == 1:
            uvicorn.run(app, **options)
            return
        del app
        with tempfile.TemporaryDirectory(prefix="rcnnkit-metrics-") as folder:
            given = asdict(served) | {"weights": str(served.weights.absolute()), "threads": _threads(workers)}
            variables = {GIVEN: json.dumps(given), "PROMETHEUS_MULTIPROC_DIR": folder}
            os.environ.update(variables)
            try:
                uvicorn.run(
                    "rcnnkit.serving.server:worker",
                    factory=True,
                    workers=workers,
                    timeout_worker_healthcheck=SLOW_START,
                    **options,
                )
            finally:
                for name in variables:
                    del os.environ[name]
    finally:
        signal.signal(signal.SIGTERM, before)


def worker() -> Any:
    """The application of one of several processes."""
    given = json.loads(os.environ[GIVEN])
    torch.set_num_threads(given.pop("threads"))
    given |= {"weights": Path(given["weights"]), "limits": ServerLimits(**given["limits"])}
    return Served(**given).application()


def _threads(workers: int) -> int:
    return max(1, torch.get_num_threads() // workers)


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as test:
            test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            test.bind(address)
    except OSError as error:
        raise OSError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}); choose another --host or --port"
        ) from None
