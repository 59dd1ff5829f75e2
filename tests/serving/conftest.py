"""A small detector, its application, and a server of it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.proof import random_picture
from rcnnkit.inference import prepare
from rcnnkit.serving.limits import ServerLimits
from tests.exporting.conftest import small


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    picture = random_picture(height, width, np.random.default_rng(seed))
    return cv2.imencode(".jpg", picture)[1].tobytes()


def huge_png() -> bytes:
    """The head of a picture of 50,000 × 50,000 pixels, and few of its pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="session")
def detector() -> Detector:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("httpx")
    sides = {"short_side": 64, "long_side": 96}
    return prepare(small(input=sides, head={"max_detections": 10}), "float32")


@contextmanager
def serving(detector: Detector, limits: ServerLimits) -> Iterator[tuple[str, Any]]:
    """The address of a server in a thread, and uvicorn's server."""
    import uvicorn

    from rcnnkit.serving.application import application

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(application(detector, limits), log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()
