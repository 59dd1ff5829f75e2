"""What there is to detect in, and what detects in it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.detecting.squares import Squares, film, moving, painted


@pytest.fixture(scope="session")
def squares() -> Squares:
    return Squares()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """in/a.png with a red square, in/mon/a.png with a red and a green one, in/tue/none.png."""
    for name, picture in (
        ("a.png", painted((0, 10, 20))),
        ("mon/a.png", painted((0, 4, 5), (1, 40, 30))),
        ("tue/none.png", painted()),
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 12 frames, 10 a second."""
    return film(tmp_path_factory.mktemp("videos") / "clip.mp4", moving(12))


@dataclass
class Web:
    """A server of files on this machine."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # path -> content
    announced: dict[str, int] = field(default_factory=dict)  # path -> the length that it says it has
    asked: list[dict[str, str]] = field(default_factory=list)  # the headers of each request


@pytest.fixture
def web() -> Iterator[Web]:
    known = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(dict(self.headers))
            path = self.path.partition("?")[0]
            if path not in known.files:
                self.send_error(404)
                return
            content = known.files[path]
            self.send_response(200)
            if (length := known.announced.get(path, len(content))) >= 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    known.address = f"http://127.0.0.1:{server.server_port}"
    yield known
    server.shutdown()
    server.server_close()
